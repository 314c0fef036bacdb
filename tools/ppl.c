// SPDX-License-Identifier: MIT
/*
 * Perplexity and divergence. A logit's probability is never formed by itself: everything is a
 * difference to ln(sum exp(logit - largest)), in float64, so nothing overflows and small
 * probabilities keep their digits.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "tools/ppl.h"

static void mean_add(struct ppl_mean *mean, double sample)
{
	double distance = sample - mean->mean;

	mean->count++;
	mean->mean += distance / mean->count;
	mean->squares += distance * (sample - mean->mean);
}

double ppl_mean_error(const struct ppl_mean *mean)
{
	if (mean->count < 2)
		return 0;
	return sqrt(mean->squares / (mean->count - 1) / mean->count);
}

double ppl_value(const struct ppl_mean *mean)
{
	return exp(mean->mean);
}

double ppl_error(const struct ppl_mean *mean)
{
	return ppl_value(mean) * ppl_mean_error(mean);
}

/* The largest logit's id and ln of the sum of all exp(logit); -EDOM when one is not finite. */
static int normalise(const float *logits, uint32_t vocab, uint32_t *first, double *log_sum)
{
	double sum = 0, top;
	uint32_t i;

	*first = 0;
	for (i = 0; i < vocab; i++) {
		if (!isfinite(logits[i]))
			return -EDOM;
		if (logits[i] > logits[*first])
			*first = i;
	}
	top = logits[*first];
	for (i = 0; i < vocab; i++)
		sum += exp(logits[i] - top);
	*log_sum = top + log(sum);
	return 0;
}

int ppl_add(struct ppl *ppl, const float *logits, const float *reference, uint32_t vocab,
	    uint32_t next)
{
	uint32_t first, first_reference = 0, i;
	double log_sum, log_sum_reference = 0, nll, nll_reference, kld = 0;

	if (next >= vocab)
		return -EINVAL;
	if (normalise(logits, vocab, &first, &log_sum) ||
	    (reference && normalise(reference, vocab, &first_reference, &log_sum_reference)))
		return -EDOM;
	nll = log_sum - logits[next];
	mean_add(&ppl->nll, nll);
	if (!reference)
		return 0;

	for (i = 0; i < vocab; i++) {
		double log_p = reference[i] - log_sum_reference;

		kld += exp(log_p) * (log_p - (logits[i] - log_sum));
	}
	nll_reference = log_sum_reference - reference[next];
	mean_add(&ppl->nll_reference, nll_reference);
	mean_add(&ppl->difference, nll - nll_reference);
	mean_add(&ppl->kld, kld);
	mean_add(&ppl->top1_same, first == first_reference);
	return 0;
}

/* Bytes of the line break at p, 0 where there is none. */
static size_t line_break(const char *p, size_t bytes)
{
	if (bytes && *p == '\n')
		return 1;
	return bytes > 1 && p[0] == '\r' && p[1] == '\n' ? 2 : 0;
}

bool ppl_document(char **text, size_t *bytes, char **document, size_t *document_bytes)
{
	char *in = *text, *end = in + *bytes, *out;
	size_t n;

	while ((n = line_break(in, end - in)))
		in += n;
	*document = out = in;
	while (in < end) {
		n = line_break(in, end - in);
		if (!n) {
			*out++ = *in++;
			continue;
		}
		in += n;
		n = line_break(in, end - in);
		if (n || in == end) {
			in += n;
			break;
		}
		*out++ = ' ';
	}
	*document_bytes = out - *document;
	*text = in;
	*bytes = end - in;
	return *document_bytes > 0;
}
