/* SPDX-License-Identifier: MIT */
/*
 * How well logits predict a text, and how far they are from a reference's.
 *
 *	struct ppl ppl = { 0 };
 *
 *	while (ppl_document(&text, &bytes, &document, &document_bytes))
 *		...append bos and the tokens of document to ids...
 *	for (each window of ids, and each position of it except the first)
 *		ppl_add(&ppl, logits before the position, the reference's or NULL, vocab, id there);
 *	printf("%f +- %f\n", ppl_value(&ppl.nll), ppl_error(&ppl.nll));
 *
 * Everything is float64 and of one thread.
 */
#ifndef TOOLS_PPL_H
#define TOOLS_PPL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Mean of samples, with the sum of squared distances from it (Welford's, which loses no digits). */
struct ppl_mean {
	uint64_t count;
	double mean;
	double squares;
};

struct ppl {
	struct ppl_mean nll;		/* -ln p(next), of the logits under test */
	struct ppl_mean nll_reference;	/* of the reference; count 0 without one, as in all below */
	struct ppl_mean difference;	/* nll - nll_reference: ppl_value() is the ratio of both */
	struct ppl_mean kld;		/* sum p_reference ln(p_reference / p), in nats */
	struct ppl_mean top1_same;	/* 1 where both have the same first choice, else 0 */
};

/*
 * One position. reference may be NULL. -EDOM: a logit is NaN or infinite, -EINVAL: next is not
 * below vocab; nothing was added then. Of equal logits the lower id is the first choice.
 */
int ppl_add(struct ppl *ppl, const float *logits, const float *reference, uint32_t vocab,
	    uint32_t next);

/* Of a mean, its standard error; 0 below two samples. */
double ppl_mean_error(const struct ppl_mean *mean);

/* exp(mean), and its standard error: of nll the perplexity, of difference the ratio. */
double ppl_value(const struct ppl_mean *mean);
double ppl_error(const struct ppl_mean *mean);

/*
 * Cuts the first document off text (both are moved on), false when there is none left. Documents
 * are separated by blank lines; each line break inside one becomes a space, in place, and those
 * around it are dropped.
 */
bool ppl_document(char **text, size_t *bytes, char **document, size_t *document_bytes);

#endif
