/* SPDX-License-Identifier: MIT */
/*
 * Instructions of a FlightLLM card as text, and back; every instruction makes the round trip.
 *
 *	char text[FLM_TEXT_BYTES];
 *	int words = flm_isa_print(stream, count, text);		"ld.tile seg=1 table=0x0 ..."
 *	int words = flm_isa_parse(text, words_out, FLM_WORDS_MAX, error);
 *
 * A line is a mnemonic, flags (+first), operands (name=value), and tokens (wait=ld,st
 * release=mm). An expression is a constant and terms (row=4+3*loop0-64*len1; sources are
 * len0 .. len15, core0 .. core15, loop0 .. loop7). A size has its maximum after a slash
 * (rows=0+1*len1/128). An on-chip address starts with its buffer (dst=wgt:0x400+64*loop1).
 * Operands that are left out are zero.
 *
 * Any thread may call any function at any time. They allocate nothing, keep no pointer and depend
 * on kernel/include alone.
 */
#ifndef FLIGHTLLM_ISA_TEXT_H
#define FLIGHTLLM_ISA_TEXT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FLM_TEXT_BYTES	2048	/* the longest instruction as text, with its terminator */

/*
 * Words of the instruction at words[0], including its terms. Reads only word 0. -EINVAL: operation
 * and mode are unknown, or the instruction does not fit in `count` words.
 */
int flm_isa_words(const uint32_t *words, size_t count);

/* Dense index (enum flm_insn) of the instruction with this word 0, -EINVAL if unknown. */
int flm_isa_insn(uint32_t word0);

/*
 * One instruction as text, without a newline. Returns its number of words. -EINVAL: not an
 * instruction (unknown, cut off, a reserved bit set); text then says which word is wrong.
 */
int flm_isa_print(const uint32_t *words, size_t count, char text[FLM_TEXT_BYTES]);

/*
 * One line of text as an instruction. Returns the number of words written (at most `count`), or 0
 * for an empty line or a comment (from '#' on). -EINVAL: error then says which part of the line is
 * wrong, and why.
 */
int flm_isa_parse(const char *text, uint32_t *words, size_t count, char error[FLM_TEXT_BYTES]);

/*
 * Names as the text has them: "ld" of enum flm_unit, "act" of enum flm_buffer; "?" for a number
 * that has none. The reverse: a unit by its name, -EINVAL if there is none.
 */
const char *flm_isa_unit_name(unsigned int unit);
const char *flm_isa_buffer_name(unsigned int buffer);
int flm_isa_unit(const char *name);

#ifdef __cplusplus
}
#endif

#endif
