// SPDX-License-Identifier: MIT
/*
 * The cards a model can be mapped to, one row each: what the compiler must know of them before it
 * sees one. A test compares these rows with what the emulated cards report.
 */
#include <string.h>

#include "compiler/cc.h"

#define KIB	1024u
#define MIB	(1024u * KIB)
#define GIB	(1024ull * MIB)

static const struct card cards[] = {
	/* HBM of 8 GiB on 32 pseudo-channels, ten of them to a core and two to spare. */
	{ "u280", 3, { 8 * MIB, 1 * MIB, 256 * KIB, 1 * MIB }, 2560ull * MIB, 32 * GIB },
	{ "vhk158", 4, { 8 * MIB, 1 * MIB, 256 * KIB, 1 * MIB }, 8 * GIB, 32 * GIB },
	{ "u280x", 3, { 8 * MIB, 1 * MIB, 256 * KIB, 1 * MIB }, 2560ull * MIB, 32 * GIB },
	{ "tiny", 2, { 256 * KIB, 64 * KIB, 16 * KIB, 64 * KIB }, 32 * MIB, 32 * MIB },
};

const struct card *card_find(const char *name)
{
	for (size_t i = 0; i < sizeof(cards) / sizeof(cards[0]); i++)
		if (!strcmp(cards[i].name, name))
			return &cards[i];
	return NULL;
}

const char *card_names(void)
{
	const char *names = cards[0].name;

	for (size_t i = 1; i < sizeof(cards) / sizeof(cards[0]); i++)
		names = arena_printf("%s, %s", names, cards[i].name);
	return names;
}
