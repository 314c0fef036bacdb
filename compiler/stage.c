// SPDX-License-Identifier: MIT
/*
 * The progress of a plan. Each pass fills fields of the plan that later ones read, so each says
 * here that it begins; one that would read what nobody has filled ends the process instead.
 */
#include "compiler/cc.h"

static const char *const names[] = {
	[STAGE_NONE] = "nothing", [STAGE_GRAPH] = "graph", [STAGE_FUSE] = "fuse",
	[STAGE_TILE] = "tile", [STAGE_PLACE] = "place", [STAGE_EMIT] = "emit",
	[STAGE_VERIFY] = "verify", [STAGE_WRITE] = "write",
};

void stage_begin(struct plan *p, enum stage stage)
{
	if (p->stage + 1 < stage)
		die("internal error: %s after %s; it reads what %s fills", names[stage],
		    names[p->stage], names[stage - 1]);
	p->stage = stage;
}
