// SPDX-License-Identifier: MIT
/*
 * The compiler's rows of cards and the emulator's say the same. Each side has its own, so that the
 * compiler does not need the emulator; here they meet.
 */
#include "compiler/cc.h"
#include "tests/tap.h"

struct profile {
	const char *name;
	unsigned int cores, core_mib, ddr_mib;
	uint32_t buffer_kib[FLM_BUFFERS];
};

#define PROFILE(name, id, cores, core_mib, channels, ddr_mib, act, wgt, idx, glb, queues, khz, mm, \
		mv, hbm_mb, ddr_mb) \
	{ #name, cores, core_mib, ddr_mib, { act, wgt, idx, glb } },
static const struct profile profiles[] = {
#include "emulator/profile.def"
};

int main(void)
{
	for (size_t i = 0; i < sizeof(profiles) / sizeof(profiles[0]); i++) {
		const struct profile *p = &profiles[i];
		const struct card *c = card_find(p->name);

		if (!ok(c, "the compiler knows the card %s", p->name))
			continue;
		ok(c->cores == p->cores, "%s has %u cores", p->name, p->cores);
		ok(c->hbm_bytes == (uint64_t)p->core_mib << 20, "%s has %u MiB of HBM a core",
		   p->name, p->core_mib);
		ok(c->ddr_bytes == (uint64_t)p->ddr_mib << 20, "%s has %u MiB of DDR", p->name,
		   p->ddr_mib);
		for (int b = 0; b < FLM_BUFFERS; b++)
			ok(c->buffer_bytes[b] == p->buffer_kib[b] << 10,
			   "buffer %d of %s has %u KiB", b, p->name, p->buffer_kib[b]);
	}
	ok(!card_find("none"), "a card that no row names is none");
	return done_testing();
}
