// SPDX-License-Identifier: MIT
/*
 * Instructions by hand: words worked out from the manual's bit positions, beside their text. And a
 * seeded walk over every instruction and operand: words -> text -> words gives the same words.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <flightllm/isa.h>

#include "lib/flightllm_isa.h"
#include "tests/tap.h"

static const struct {
	const char *text;
	int count;
	uint32_t words[20];
} golden[] = {
	{ "end", 1, { 0x70000000 } },
	{ "loop class=1 index=3 shift=6 ceil=1 sub=0 bound=0x20 body=7", 5,
	  { 0x60000000, 0x23340000, 0, 0x20, 7 } },
	{ "sync", 1, { 0xf0000000 } },
	{ "sync wait=ld,mm release=misc", 1, { 0xf00a8000 } },
	{ "sync wait=ld,st,mm,mv,misc,sys release=ld,st,mm,mv,misc,sys", 1, { 0xf07ff800 } },
	{ "misc.add a=act:0x100 a_pitch=0x40 b=glb:0x0 b_pitch=0 out=act:0x200 out_pitch=0x40 "
	  "rows=0+1*len1/128 cols=192/192 wait=mm release=ld", 17,
	  { 0x50880800, 0x100, 0x40, 0x30000000, 0, 0, 0, 0x200, 0x40, 0, 128, 192, 192, 0, 0,
	    0x42100000, 1 } },
	{ "ld seg=2 off=-64+768*loop0 src_pitch=0 dst=glb:0x0 dst_pitch=0 rows=1/1 "
	  "bytes=768/768 release=misc", 12,
	  { 0x10808000, 2, 0xffffffc0, 0, 0x30000000, 0, 1, 1, 768, 768, 0x06000000, 768 } },
	{ "mv.pv +first a=act:0x0 a_scales=act:0x400 b=wgt:0x0 b_pitch=0x20 dim=0x20 "
	  "positions=0+1*len3/256 out=act:0x800 masks=act:0x0 mask_pitch=0 query=0 key=0", 15,
	  { 0x40800022, 0, 0x400, 0x10000000, 0x20, 0x20, 0, 256, 0x800, 0, 0, 0, 0,
	    0x32300000, 1 } },
};

static const struct {
	const char *text, *what;
} refused[] = {
	{ "mw a=act:0x0", "an unknown mnemonic" },
	{ "st rows=1", "a size without a maximum" },
	{ "ld seg=256", "a value that does not fit its field" },
	{ "ld off=1+2*loop16", "a register that is none" },
	{ "ld dst=abc:0", "a buffer that is none" },
	{ "misc.add imm=1", "an operand that the operation does not use" },
	{ "misc.rmsnorm +mask", "a flag that the operation does not have" },
	{ "misc.quant +half", "another one" },
	{ "loop wait=ld", "tokens on a loop" },
	{ "sync dim=1", "an operand of a sync" },
	{ "sync +first", "a flag of a sync" },
	{ "ld off=99999999999", "a constant beyond 32 bits" },
};

static uint32_t next(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 32;
}

static void by_hand(void)
{
	uint32_t words[FLM_WORDS_MAX];
	char text[FLM_TEXT_BYTES], error[FLM_TEXT_BYTES];

	for (size_t i = 0; i < sizeof(golden) / sizeof(golden[0]); i++) {
		const uint32_t *want = golden[i].words;
		int n = flm_isa_parse(golden[i].text, words, FLM_WORDS_MAX, error);

		ok(n == golden[i].count && !memcmp(words, want, 4 * n), "'%.20s' has these words%s%s",
		   golden[i].text, n < 0 ? ": " : "", n < 0 ? error : "");
		n = flm_isa_print(want, golden[i].count, text);
		ok(n == golden[i].count && !strcmp(text, golden[i].text),
		   "these words are '%.20s'", golden[i].text);
		if (strcmp(text, golden[i].text))
			printf("# got  %s\n# want %s\n", text, golden[i].text);
	}
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		ok(flm_isa_parse(refused[i].text, words, FLM_WORDS_MAX, error) < 0 && error[0],
		   "%s is refused with a reason", refused[i].what);
	words[0] = 0x70000001;
	ok(flm_isa_print(words, 1, text) < 0, "an end with a reserved bit is no instruction");
	words[0] = 0xf0000001;
	ok(flm_isa_print(words, 1, text) < 0, "nor is a sync with a flag");
	words[0] = 0xf0800000;
	words[1] = 0x02000000;
	words[2] = 1;
	ok(flm_isa_print(words, 3, text) < 0, "nor one with a term");
	words[0] = 0x10000000;
	ok(flm_isa_print(words, 9, text) < 0, "an instruction that is cut off is none");
	memset(words, 0, sizeof(words));
	words[0] = 0x50000081;
	ok(flm_isa_print(words, 15, text) < 0, "a misc.rmsnorm with a mask is none");
	words[0] = 0x500000b0;
	words[4] = 64;
	ok(flm_isa_print(words, 15, text) < 0, "nor is a misc.softmax with the pitch of no mask");
	words[0] = 0x500000b1;
	ok(flm_isa_print(words, 15, text) == 15, "with a mask it is one");
	words[4] = 0;
	words[0] = 0x50000090;
	words[6] = 4;
	ok(flm_isa_print(words, 15, text) < 0, "a misc.layernorm has no pitch of its third operand");
}

/* Random words in which only the bits that rows name are set, terms in the order of operands. */
static void walk(void)
{
	static const struct {
		int insn, kind, word, high, low, slot;
	} rows[] = {
#define FLAG(insn, name, bit, meaning) { FLM_INSN_##insn, 0, 0, bit, bit, -1 },
#define OPND(insn, name, word, high, low, meaning) { FLM_INSN_##insn, 1, word, high, low, -1 },
#define EXPR(insn, name, word, slot, meaning) { FLM_INSN_##insn, 2, word, 31, 0, slot },
#define ADDR(insn, name, word, slot, meaning) { FLM_INSN_##insn, 3, word, 31, 0, slot },
#define SIZE(insn, name, word, slot, meaning) { FLM_INSN_##insn, 4, word, 31, 0, slot },
#include <flightllm/isa.def>
	};
	static const struct {
		int insn, op, mode, words;
	} insns[] = {
#define INSN(name, op, mode, words, mnemonic, meaning) { FLM_INSN_##name, op, mode, words },
#include <flightllm/isa.def>
	};
	uint64_t state = 1;
	int failed = 0, done = 0;
	char text[FLM_TEXT_BYTES], error[FLM_TEXT_BYTES];

	for (int round = 0; round < 400; round++) {
		for (size_t k = 0; k < sizeof(insns) / sizeof(insns[0]); k++) {
			uint32_t words[FLM_WORDS_MAX] = { 0 }, back[FLM_WORDS_MAX];
			bool control = insns[k].op == 0x6 || insns[k].op == 0x7;
			int n, terms = 0;

			if (insns[k].insn == FLM_INSN_MISC)
				continue;
			for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
				uint32_t v = next(&state) >> next(&state) % 32;

				if (rows[r].insn != insns[k].insn)
					continue;
				v &= 0xffffffffu >> (31 - (rows[r].high - rows[r].low));
				if (rows[r].kind == 3)
					v &= 0x3fffffff;
				flm_put(words, rows[r].word, rows[r].high, rows[r].low, v);
				if (rows[r].kind == 4)
					words[rows[r].word + 1] = next(&state);
				for (; rows[r].slot >= 0 && next(&state) % 3 == 0 &&
				     terms < 31; terms++) {
					uint32_t *t = words + insns[k].words + 2 * terms;

					FLM_PUT_TERM(t, OPERAND, rows[r].slot);
					FLM_PUT_TERM(t, CLASS, 1 + next(&state) % 3);
					FLM_PUT_TERM(t, INDEX, next(&state) % 16);
					t[1] = next(&state);
				}
			}
			FLM_PUT_HEAD(words, OP, insns[k].op);
			FLM_PUT_HEAD(words, MODE, insns[k].mode);
			FLM_PUT_HEAD(words, TERMS, terms);
			if (!control) {
				FLM_PUT_HEAD(words, WAIT, next(&state) % 64);
				FLM_PUT_HEAD(words, RELEASE, next(&state) % 64);
			}
			n = flm_isa_print(words, FLM_WORDS_MAX, text);
			if (n != insns[k].words + 2 * terms ||
			    flm_isa_parse(text, back, FLM_WORDS_MAX, error) != n ||
			    memcmp(words, back, 4 * n)) {
				if (!failed++)
					printf("# %s\n", text);
			}
			done++;
		}
	}
	ok(done == 400 * 21 && failed == 0, "every instruction makes the round trip: %d of %d do",
	   done - failed, done);
}

int main(void)
{
	by_hand();
	walk();
	return done_testing();
}
