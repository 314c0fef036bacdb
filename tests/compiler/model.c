// SPDX-License-Identifier: MIT
/*
 * Models through the compiler and the card's execution part, in chunks and token by token: logits
 * equal those of ref_model to the bit, however the prompt is cut. `model FILE.flm CARD TOKENS`
 * compares a file that exists already.
 */
#include <stdio.h>

#include "tests/compiler/compare.h"

int main(int argc, char **argv)
{
	static const uint32_t every[FLM_ROTATIONS] = { HADAMARD_AUTO, HADAMARD_AUTO, HADAMARD_AUTO,
						       HADAMARD_AUTO, HADAMARD_AUTO };
	struct options o = { .card = card_find("u280"), .width = 8 };

	if (argc == 4) {
		const struct card *card = card_find(argv[2]);

		if (!card)
			errx(2, "%s: no such card", argv[2]);
		compare(argv[1], card, atoi(argv[3]), argv[1]);
		return done_testing();
	}
	o.model = "tests/data/fables-3m";
	compile_and_compare(o, 40, "fables-3m w8 on u280");
	o.width = 4;
	memcpy(o.hadamard, every, sizeof(every));
	o.card = card_find("vhk158");
	compile_and_compare(o, 24, "fables-3m w4 rotated on vhk158");
	o = (struct options) { .card = card_find("tiny"), .width = 8, .synthetic = "tiny" };
	compile_and_compare(o, 128, "tiny w8 on tiny");
	o.width = 4;
	memcpy(o.hadamard, every, sizeof(every));
	o.card = card_find("u280");
	compile_and_compare(o, 128, "tiny w4 rotated on u280");
	return done_testing();
}
