// SPDX-License-Identifier: MIT
/*
 * Disassembler and assembler. Both walk the same two tables, which are the rows of isa.def: an
 * operand that a row adds is printed and parsed without a line of code here.
 */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <flightllm/isa.h>

#include "lib/flightllm_isa.h"

#define PUBLIC __attribute__((visibility("default")))

enum kind { KIND_FLAG, KIND_OPND, KIND_EXPR, KIND_ADDR, KIND_SIZE };

struct insn {
	const char *mnemonic;
	int op, mode, words;
};

struct operand {
	const char *name;
	int insn, kind, word, high, low, number;
};

#define INSN(name, op, mode, words, mnemonic, meaning) \
	[FLM_INSN_##name] = { mnemonic, op, mode, words },
static const struct insn insns[] = {
#include <flightllm/isa.def>
};

#define FLAG(insn, name, bit, meaning) { #name, FLM_INSN_##insn, KIND_FLAG, 0, bit, bit, -1 },
#define OPND(insn, name, word, high, low, meaning) \
	{ #name, FLM_INSN_##insn, KIND_OPND, word, high, low, -1 },
#define EXPR(insn, name, word, number, meaning) \
	{ #name, FLM_INSN_##insn, KIND_EXPR, word, 31, 0, number },
#define ADDR(insn, name, word, number, meaning) \
	{ #name, FLM_INSN_##insn, KIND_ADDR, word, 31, 0, number },
#define SIZE(insn, name, word, number, meaning) \
	{ #name, FLM_INSN_##insn, KIND_SIZE, word, 31, 0, number },
static const struct operand operands[] = {
#include <flightllm/isa.def>
};

#define MISC(name, mode, uses, mnemonic, meaning) [mode] = { mnemonic, uses },
static const struct {
	const char *mnemonic;
	int uses;
} miscs[] = {
#include <flightllm/isa.def>
};

#define UNIT(name, number, text, meaning) [number] = text,
static const char *const units[] = {
#include <flightllm/names.def>
};

#define BUFFER(name, number, text, meaning) [number] = text,
static const char *const buffers[] = {
#include <flightllm/names.def>
};

static const char *const sources[] = { [FLM_CLASS_LENGTH] = "len", [FLM_CLASS_CORE] = "core",
				       [FLM_CLASS_LOOP] = "loop" };

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Text under construction; writing past its end is remembered, not done. */
struct line {
	char *text;
	size_t used;
};

__attribute__((format(printf, 2, 3))) static void add(struct line *line, const char *format, ...)
{
	size_t left = FLM_TEXT_BYTES - line->used;
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(line->text + line->used, left, format, args);
	va_end(args);
	line->used += n < 0 ? 0 : (size_t)n < left ? (size_t)n : left - 1;
}

static bool is_control(int op)
{
	return op == FLM_OP_LOOP || op == FLM_OP_END;
}

PUBLIC int flm_isa_insn(uint32_t word0)
{
	int op = flm_get(&word0, 0, FLM_HEAD_OP_HI, FLM_HEAD_OP_LO);
	int mode = flm_get(&word0, 0, FLM_HEAD_MODE_HI, FLM_HEAD_MODE_LO);

	if (op == FLM_OP_MISC)
		return mode < (int)COUNT(miscs) ? FLM_INSN_MISC : -EINVAL;
	for (int i = 0; i < FLM_INSNS; i++)
		if (insns[i].op == op && insns[i].mode == mode)
			return i;
	return -EINVAL;
}

PUBLIC int flm_isa_words(const uint32_t *words, size_t count)
{
	int insn = count ? flm_isa_insn(words[0]) : -EINVAL;
	size_t need;

	if (insn < 0)
		return insn;
	need = insns[insn].words + 2 * FLM_GET_HEAD(words, TERMS);
	return need <= count ? (int)need : -EINVAL;
}

/*
 * Which operand of a MISC an operation must leave alone: its bit in `uses`, 0 for the common
 * ones.
 */
static int misc_use(const char *name)
{
	static const struct {
		const char *name;
		int use;
	} uses[] = {
		{ "A", FLM_USE_A }, { "A_PITCH", FLM_USE_A }, { "B", FLM_USE_B },
		{ "B_PITCH", FLM_USE_B }, { "C", FLM_USE_C }, { "C_PITCH", FLM_USE_C },
		{ "OUT", FLM_USE_OUT }, { "OUT_PITCH", FLM_USE_OUT }, { "IMM", FLM_USE_IMM },
		{ "POS", FLM_USE_POS },
	};

	for (size_t i = 0; i < COUNT(uses); i++)
		if (!strcmp(uses[i].name, name))
			return uses[i].use;
	return 0;
}

/* The flags of a MISC belong to one operation each, as the rows' meanings say. */
static uint32_t misc_flags(int mode)
{
	switch (mode) {
	case FLM_MISC_SOFTMAX:
		return FLM_MISC_MASK | FLM_MISC_SAME;
	case FLM_MISC_DEQUANT:
		return FLM_MISC_HALF;
	default:
		return 0;
	}
}

static bool is_used(const struct operand *operand, const uint32_t *words)
{
	int mode = FLM_GET_HEAD(words, MODE), use;

	if (operand->insn != FLM_INSN_MISC)
		return true;
	if (operand->kind == KIND_FLAG)
		return misc_flags(mode) >> operand->low & 1;
	use = misc_use(operand->name);
	return !use || miscs[mode].uses & use;
}

/* Operands that have a text and must be zero: the mask of none, the pitch of a single row. */
static bool must_be_zero(const struct operand *operand, const uint32_t *words)
{
	if (operand->insn != FLM_INSN_MISC)
		return false;
	switch (FLM_GET_HEAD(words, MODE)) {
	case FLM_MISC_SOFTMAX:
		return misc_use(operand->name) == FLM_USE_B &&
		       !(FLM_GET_HEAD(words, FLAGS) & FLM_MISC_MASK);
	case FLM_MISC_LAYERNORM:
		return operand->word == FLM_MISC_C_PITCH_W;
	default:
		return false;
	}
}

/* The bits of each fixed word that some row names; the others are reserved. */
static void known_bits(int insn, const uint32_t *words, uint32_t *known)
{
	memset(known, 0, insns[insn].words * sizeof(*known));
	known[0] = is_control(insns[insn].op) ? 0xf0000000u : ~0xfu;
	for (size_t i = 0; i < COUNT(operands); i++) {
		const struct operand *o = &operands[i];

		if (o->insn != insn || !is_used(o, words) || must_be_zero(o, words))
			continue;
		known[o->word] |= 0xffffffffu >> (31 - (o->high - o->low)) << o->low;
		if (o->kind == KIND_SIZE)
			known[o->word + 1] = 0xffffffffu;
	}
}

static void print_lower(struct line *line, const char *name)
{
	for (; *name; name++)
		add(line, "%c", tolower((unsigned char)*name));
}

static void print_value(struct line *line, const struct operand *o, const uint32_t *words)
{
	const uint32_t *term = words + insns[o->insn].words;
	uint32_t value = flm_get(words, o->word, o->high, o->low);

	add(line, " ");
	print_lower(line, o->name);
	if (o->kind == KIND_ADDR)
		add(line, "=%s:0x%x", buffers[value >> 28 & 3], value & 0xfffffff);
	else if (o->kind == KIND_OPND)
		add(line, value > 9 ? "=0x%x" : "=%u", value);
	else
		add(line, "=%d", (int)value);
	for (unsigned int t = 0; t < FLM_GET_HEAD(words, TERMS); t++, term += 2)
		if ((int)FLM_GET_TERM(term, OPERAND) == o->number && o->number >= 0)
			add(line, "%+d*%s%u", (int)term[1], sources[FLM_GET_TERM(term, CLASS)],
			    FLM_GET_TERM(term, INDEX));
	if (o->kind == KIND_SIZE)
		add(line, "/%u", words[o->word + 1]);
}

static void print_tokens(struct line *line, const char *name, uint32_t mask)
{
	const char *separator = "=";

	if (!mask)
		return;
	add(line, " %s", name);
	for (int u = 0; u < FLM_UNITS; u++) {
		if (!(mask >> u & 1))
			continue;
		add(line, "%s%s", separator, units[u]);
		separator = ",";
	}
}

/* -EINVAL and the reason when a term names nothing that can be printed. */
static int check_terms(int insn, const uint32_t *words, struct line *line)
{
	const uint32_t *term = words + insns[insn].words;

	for (unsigned int t = 0; t < FLM_GET_HEAD(words, TERMS); t++, term += 2) {
		unsigned int class = FLM_GET_TERM(term, CLASS);
		bool has_slot = false;

		for (size_t i = 0; i < COUNT(operands); i++)
			has_slot |= operands[i].insn == insn && is_used(&operands[i], words) &&
				    !must_be_zero(&operands[i], words) &&
				    operands[i].number == (int)FLM_GET_TERM(term, OPERAND);
		if (!has_slot || class < FLM_CLASS_LENGTH || class > FLM_CLASS_LOOP ||
		    FLM_GET_TERM(term, INDEX) > 15 || flm_get(term, 0, 19, 0)) {
			add(line, "term %u: 0x%08x is none", t, term[0]);
			return -EINVAL;
		}
	}
	return 0;
}

PUBLIC int flm_isa_print(const uint32_t *words, size_t count, char text[FLM_TEXT_BYTES])
{
	struct line line = { .text = text };
	int length = flm_isa_words(words, count);
	uint32_t known[FLM_WORDS_MAX];
	int insn;

	text[0] = 0;
	if (length < 0) {
		add(&line, count ? "word 0: 0x%08x is no instruction, or is cut off" : "no words",
		    count ? words[0] : 0);
		return -EINVAL;
	}
	insn = flm_isa_insn(words[0]);
	known_bits(insn, words, known);
	for (int i = 0; i < insns[insn].words; i++) {
		if (words[i] & ~known[i]) {
			add(&line, "word %d: reserved bits 0x%x of 0x%08x are set", i,
			    words[i] & ~known[i], words[i]);
			return -EINVAL;
		}
	}
	for (size_t i = 0; i < COUNT(operands); i++) {
		const struct operand *o = &operands[i];

		if (o->insn == insn && o->kind == KIND_ADDR &&
		    words[o->word] >> 28 >= FLM_BUFFERS) {
			add(&line, "word %d: 0x%08x names no buffer", o->word, words[o->word]);
			return -EINVAL;
		}
	}
	if (check_terms(insn, words, &line))
		return -EINVAL;

	add(&line, "%s", insns[insn].mnemonic);
	if (insn == FLM_INSN_MISC)
		add(&line, ".%s", miscs[FLM_GET_HEAD(words, MODE)].mnemonic);
	for (size_t i = 0; i < COUNT(operands); i++) {
		const struct operand *o = &operands[i];

		if (o->insn != insn || !is_used(o, words))
			continue;
		if (o->kind != KIND_FLAG) {
			print_value(&line, o, words);
		} else if (flm_get(words, 0, o->high, o->low)) {
			add(&line, " +");
			print_lower(&line, o->name);
		}
	}
	if (!is_control(insns[insn].op)) {
		print_tokens(&line, "wait", FLM_GET_HEAD(words, WAIT));
		print_tokens(&line, "release", FLM_GET_HEAD(words, RELEASE));
	}
	return length;
}

/* An instruction being assembled. */
struct build {
	uint32_t *words;
	size_t count;		/* room */
	int insn;
	unsigned int terms;
	struct line error;
};

static int index_of(const char *name, size_t length, const char *const *names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (names[i] && strlen(names[i]) == length && !strncasecmp(names[i], name, length))
			return i;
	return -1;
}

static int find_mnemonic(struct build *b, const char *word, size_t length)
{
	if (length > 5 && !strncmp(word, "misc.", 5)) {
		for (size_t i = 0; i < COUNT(miscs); i++) {
			if (strlen(miscs[i].mnemonic) == length - 5 &&
			    !strncmp(miscs[i].mnemonic, word + 5, length - 5)) {
				b->insn = FLM_INSN_MISC;
				return i;
			}
		}
		return -1;
	}
	for (int i = 0; i < FLM_INSNS; i++) {
		if (i != FLM_INSN_MISC && strlen(insns[i].mnemonic) == length &&
		    !strncmp(insns[i].mnemonic, word, length)) {
			b->insn = i;
			return insns[i].mode;
		}
	}
	return -1;
}

/* A term behind a constant: +3*loop0. Advances *text. */
static int parse_term(struct build *b, int number, const char **text)
{
	uint32_t *term = b->words + insns[b->insn].words + 2 * b->terms;
	long long stride;
	unsigned long index;
	int class = -1;
	char *end;

	errno = 0;
	stride = strtoll(*text, &end, 0);
	if (errno || end == *text || *end != '*' || stride < INT32_MIN || stride > INT32_MAX)
		return -EINVAL;
	end++;
	for (size_t c = 0; c < COUNT(sources); c++)
		if (sources[c] && !strncmp(end, sources[c], strlen(sources[c])))
			class = c;
	if (class < 0 || !isdigit((unsigned char)end[strlen(sources[class])]))
		return -EINVAL;
	index = strtoul(end + strlen(sources[class]), &end, 10);
	if (index > 15 || b->terms == FLM_TERMS_MAX ||
	    insns[b->insn].words + 2 * (b->terms + 1) > b->count)
		return -EINVAL;
	term[0] = 0;
	FLM_PUT_TERM(term, OPERAND, number);
	FLM_PUT_TERM(term, CLASS, class);
	FLM_PUT_TERM(term, INDEX, index);
	term[1] = (uint32_t)stride;
	b->terms++;
	*text = end;
	return 0;
}

static int parse_value(struct build *b, const struct operand *o, const char *text)
{
	const char *colon = strchr(text, ':');
	uint32_t base = 0;
	long long value;
	char *end;

	if (o->kind == KIND_ADDR) {
		int buffer = colon ? index_of(text, colon - text, buffers, COUNT(buffers)) : -1;

		if (buffer < 0)
			return -EINVAL;
		base = FLM_CHIP(buffer, 0);
		text = colon + 1;
	}
	errno = 0;
	value = strtoll(text, &end, 0);
	if (errno || end == text)
		return -EINVAL;
	if (o->kind == KIND_ADDR && (value < 0 || value > 0xfffffff))
		return -EINVAL;
	if ((o->kind == KIND_EXPR || o->kind == KIND_SIZE) &&
	    (value < INT32_MIN || value > INT32_MAX))
		return -EINVAL;
	if (o->kind == KIND_OPND && (value < 0 || value > UINT32_MAX))
		return -EINVAL;
	if (flm_put(b->words, o->word, o->high, o->low, base | (uint32_t)value))
		return -EINVAL;
	text = end;
	while (o->number >= 0 && (*text == '+' || *text == '-'))
		if (parse_term(b, o->number, &text))
			return -EINVAL;
	if (o->kind == KIND_SIZE) {
		if (*text != '/')
			return -EINVAL;
		value = strtoll(text + 1, &end, 0);
		if (end == text + 1 || value < 0 || value > UINT32_MAX)
			return -EINVAL;
		b->words[o->word + 1] = (uint32_t)value;
		text = end;
	}
	return *text ? -EINVAL : 0;
}

static int parse_tokens(const char *text, uint32_t *mask)
{
	*mask = 0;
	while (*text) {
		size_t length = strcspn(text, ",");
		int unit = index_of(text, length, units, COUNT(units));

		if (unit < 0)
			return -EINVAL;
		*mask |= 1u << unit;
		text += length + (text[length] == ',');
	}
	return 0;
}

static int parse_word(struct build *b, const char *word)
{
	const char *equals = strchr(word, '=');
	size_t length = equals ? (size_t)(equals - word) : strlen(word);
	bool is_flag = word[0] == '+' && !equals;
	uint32_t mask;

	if (equals && !is_control(insns[b->insn].op)) {
		if (!strncmp(word, "wait=", 5))
			return parse_tokens(equals + 1, &mask) ||
			       FLM_PUT_HEAD(b->words, WAIT, mask);
		if (!strncmp(word, "release=", 8))
			return parse_tokens(equals + 1, &mask) ||
			       FLM_PUT_HEAD(b->words, RELEASE, mask);
	}
	for (size_t i = 0; i < COUNT(operands); i++) {
		const struct operand *o = &operands[i];
		const char *name = is_flag ? word + 1 : word;

		if (o->insn != b->insn || is_flag != (o->kind == KIND_FLAG) ||
		    !is_used(o, b->words) || strlen(o->name) != length - is_flag ||
		    strncasecmp(o->name, name, length - is_flag))
			continue;
		if (is_flag)
			return flm_put(b->words, 0, o->high, o->low, 1);
		return equals ? parse_value(b, o, equals + 1) : -EINVAL;
	}
	return -EINVAL;
}

PUBLIC int flm_isa_parse(const char *text, uint32_t *words, size_t count,
			 char error[FLM_TEXT_BYTES])
{
	struct build b = { .words = words, .count = count, .error = { .text = error } };
	char word[FLM_TEXT_BYTES];
	bool has_mnemonic = false;

	error[0] = 0;
	for (;;) {
		size_t length;

		text += strspn(text, " \t\n");
		length = strcspn(text, " \t\n#");
		if (!length)
			break;
		if (length >= sizeof(word)) {
			add(&b.error, "a word of %zu characters is too long", length);
			return -EINVAL;
		}
		memcpy(word, text, length);
		word[length] = 0;
		text += length;
		if (!has_mnemonic) {
			int mode = find_mnemonic(&b, word, length);

			if (mode < 0 || (size_t)insns[b.insn].words > count) {
				add(&b.error, mode < 0 ? "'%s' is no mnemonic" :
						     "no room for the words of '%s'", word);
				return -EINVAL;
			}
			memset(words, 0, insns[b.insn].words * sizeof(*words));
			FLM_PUT_HEAD(words, OP, insns[b.insn].op);
			FLM_PUT_HEAD(words, MODE, mode);
			has_mnemonic = true;
		} else if (parse_word(&b, word)) {
			add(&b.error, "'%s' is no operand of it, or does not fit", word);
			return -EINVAL;
		}
	}
	if (!has_mnemonic)
		return 0;
	if (FLM_PUT_HEAD(words, TERMS, b.terms))
		return -EINVAL;
	return insns[b.insn].words + 2 * b.terms;
}

PUBLIC const char *flm_isa_unit_name(unsigned int unit)
{
	return unit < COUNT(units) ? units[unit] : "?";
}

PUBLIC const char *flm_isa_buffer_name(unsigned int buffer)
{
	return buffer < COUNT(buffers) ? buffers[buffer] : "?";
}

PUBLIC int flm_isa_unit(const char *name)
{
	for (unsigned int u = 0; u < COUNT(units); u++)
		if (!strcmp(name, units[u]))
			return u;
	return -EINVAL;
}
