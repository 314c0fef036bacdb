// SPDX-License-Identifier: MIT
/*
 * flightllm perplexity: how well a compiled model predicts a text, and with --reference how far its
 * logits are from a float32 forward pass of the original weights. Windows as long as the model's
 * context; every position of a window except the first is scored.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/checkpoint/checkpoint.h"
#include "tools/float.h"
#include "tools/ppl.h"
#include "tools/tool.h"

static const char help[] =
	"Usage: flightllm perplexity MODEL.flm --file TEXT [OPTION]...\n"
	"Perplexity of a text. Documents are separated by blank lines; each is bos and its tokens; all\n"
	"together are cut into windows of the model's context.\n\n"
	"      --file TEXT      the text ('-': stdin)\n"
	"      --reference DIR  compare with a float32 pass of the model in DIR: ratio of perplexities,\n"
	"                       KL divergence, share of the same first choice\n"
	"      --windows N      at most N windows\n"
	"  -d, --device CARD    number, node or PCI address (default: $FLIGHTLLM_DEVICE, or the first)\n"
	"      --emulate[=CARD] a card inside this process instead\n"
	"  -q, --quiet          no bars\n"
	"      --json           one JSON object instead of text\n"
	"  -h, --help, -V, --version\n";

enum { OPT_FILE = OPT_OWN, OPT_REFERENCE, OPT_WINDOWS };

static const struct option options[] = {
	CARD_OPTIONS,
	{ "quiet", no_argument, NULL, 'q' },
	{ "file", required_argument, NULL, OPT_FILE },
	{ "reference", required_argument, NULL, OPT_REFERENCE },
	{ "windows", required_argument, NULL, OPT_WINDOWS },
	{ 0 }
};

/* The text as token ids; count through *count. */
static uint32_t *tokenize(const struct common *common, struct flm_model *model, char *text,
			  size_t bytes, size_t *count)
{
	struct flm_tokenizer *tokenizer = flm_model_tokenizer(model);
	struct flm_model_info info;
	uint32_t *ids = malloc((ID_ROOM(bytes) + 1) * sizeof(*ids));
	size_t used = 0, n, document_bytes;
	char *document;

	flm_model_info(model, &info);
	if (!ids)
		fail(common, EXIT_FAILED, "no memory for a text of %zu bytes", bytes);
	while (ppl_document(&text, &bytes, &document, &document_bytes)) {
		int ret;

		ids[used++] = info.bos;
		ret = flm_tokenizer_encode(tokenizer, document, document_bytes, ids + used,
					   ID_ROOM(document_bytes), &n);
		if (ret)
			fail_flm(common, ret);
		used += n;
	}
	*count = used;
	return ids;
}

struct reference {
	struct checkpoint *cp;
	struct float_model *model;
	float *logits;
};

/* Both must be the same model, and the reference must reach as far as a window does. */
static void check_reference(const struct common *common, const char *dir,
			    const struct checkpoint_config *c, const struct flm_model_info *info)
{
	const struct {
		const char *name;
		uint32_t reference, compiled;
	} sizes[] = {
		{ "vocab_size", c->vocab, info->vocab },
		{ "num_hidden_layers", c->layers, info->layers },
		{ "hidden_size", c->hidden, info->hidden },
		{ "intermediate_size", c->ffn, info->ffn },
		{ "num_attention_heads", c->heads, info->heads },
		{ "num_key_value_heads", c->kv_heads, info->kv_heads },
	};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		if (sizes[i].reference != sizes[i].compiled)
			fail(common, EXIT_FAILED, "%s has %s %u, the compiled model %u; name the "
			     "directory that it was compiled from", dir, sizes[i].name,
			     sizes[i].reference, sizes[i].compiled);
	if (c->context < info->context)
		fail(common, EXIT_FAILED, "%s has max_position_embeddings %u, the compiled model a "
		     "context of %u; name the directory that it was compiled from", dir,
		     c->context, info->context);
}

static void open_reference(const struct common *common, const char *dir, const char *model_path,
			   struct reference *reference)
{
	char error[CHECKPOINT_ERROR_BYTES];
	struct flm_model_info info;
	int ret;

	probe_model(common, model_path, &info, NULL);
	ret = checkpoint_open(dir, error, sizeof(error), &reference->cp);
	if (!ret) {
		check_reference(common, dir, checkpoint_config(reference->cp), &info);
		ret = float_open(reference->cp, 0, error, sizeof(error), &reference->model);
	}
	if (ret)
		fail(common, ret == -EACCES ? EXIT_PERMISSION : EXIT_FAILED, "%s", error);
	reference->logits = malloc(4ull * info.vocab * info.context);
	if (!reference->logits)
		fail(common, EXIT_FAILED, "no memory for the reference's logits");
}

static void print(const struct common *common, const struct ppl *ppl, size_t windows)
{
	bool has_reference = ppl->nll_reference.count;

	if (common->json) {
		json_t *all = json_pack("{s:I, s:I, s:f, s:f}", "windows", (json_int_t)windows,
					"tokens", (json_int_t)ppl->nll.count,
					"ppl", ppl_value(&ppl->nll),
					"ppl_error", ppl_error(&ppl->nll));

		if (has_reference)
			json_object_update_new(all, json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}",
				"ppl_reference", ppl_value(&ppl->nll_reference),
				"ppl_ratio", ppl_value(&ppl->difference),
				"ppl_ratio_error", ppl_error(&ppl->difference),
				"kld_mean", ppl->kld.mean, "kld_error", ppl_mean_error(&ppl->kld),
				"top1_same", ppl->top1_same.mean));
		print_json(all);
		return;
	}
	printf("perplexity %.4f +- %.4f over %llu tokens in %zu windows\n", ppl_value(&ppl->nll),
	       ppl_error(&ppl->nll), (unsigned long long)ppl->nll.count, windows);
	if (has_reference)
		printf("float32 reference %.4f, ratio %.5f +- %.5f\n"
		       "mean KL divergence %.6f +- %.6f, same first choice %.2f %%\n",
		       ppl_value(&ppl->nll_reference), ppl_value(&ppl->difference),
		       ppl_error(&ppl->difference), ppl->kld.mean, ppl_mean_error(&ppl->kld),
		       100 * ppl->top1_same.mean);
}

struct scoring {
	struct flm_session *session;
	struct flm_model_info info;
	struct reference reference;	/* empty without --reference */
	float *logits;			/* of a window */
	struct ppl ppl;
	size_t windows;			/* scored so far */
};

/* One window more: each token's logits say how likely the next one was. */
static void score(const struct common *common, struct scoring *s, const uint32_t *ids,
		  unsigned int n)
{
	struct flm_request request = {
		.tokens = ids, .count = n, .logits = s->logits, .logit_count = n,
	};
	float *reference = s->reference.model ? s->reference.logits : NULL;
	char error[CHECKPOINT_ERROR_BYTES];
	size_t vocab = s->info.vocab;
	struct flm_result result;
	int ret;

	ret = flm_session_truncate(s->session, 0);
	if (!ret)
		ret = flm_session_generate(s->session, &request, &result);
	if (ret)
		fail_flm(common, ret);
	if (reference && float_logits(s->reference.model, ids, n, reference, error, sizeof(error)))
		fail(common, EXIT_FAILED, "%s", error);
	for (unsigned int p = 1; p < n; p++)
		if (ppl_add(&s->ppl, s->logits + (p - 1) * vocab,
			    reference ? reference + (p - 1) * vocab : NULL, vocab, ids[p]))
			fail(common, EXIT_UNVERIFIED, "logits of position %u in window %zu are "
			     "not finite", p - 1, s->windows);
	s->windows++;
}

static void score_all(const struct common *common, struct scoring *s, struct flm_model *model,
		      const uint32_t *ids, size_t count, size_t windows)
{
	struct progress progress = {
		.what = "scoring", .unit = "tokens", .is_off = common->quiet, .last = -1,
	};
	uint32_t context = s->info.context;
	int ret;

	s->logits = malloc(4ull * s->info.vocab * context);
	if (!s->logits)
		fail(common, EXIT_FAILED, "no memory for the logits of %u positions", context);
	ret = flm_session_new(model, NULL, &s->session);
	if (ret)
		fail_flm(common, ret);
	for (size_t at = 0; at + 1 < count && s->windows < windows; at += context) {
		unsigned int n = count - at < context ? count - at : context;

		score(common, s, ids + at, n);
		progress_draw(&progress, at + n, count);
	}
	progress_end();
	free(s->logits);
	flm_session_free(s->session);
}

static int perplexity_main(int argc, char **argv)
{
	struct common common = { .command = &perplexity_command };
	const char *file = NULL, *dir = NULL;
	struct scoring s = { 0 };
	struct flm_device *device;
	struct flm_model *model;
	size_t bytes, count, windows = SIZE_MAX;
	uint32_t *ids;
	char *text;
	int option;

	while ((option = next_option(&common, argc, argv, "qd:", options)) != -1) {
		switch (option) {
		case 'q': common.quiet = true; break;
		case OPT_FILE: file = optarg; break;
		case OPT_REFERENCE: dir = optarg; break;
		case OPT_WINDOWS:
			windows = parse_count(&common, "--windows", optarg, 1, 1 << 30);
			break;
		default: common_option(&common, option);
		}
	}
	if (argc - optind != 1 || !file)
		fail(&common, EXIT_USAGE, "takes one model file and --file TEXT; 'flightllm "
		     "perplexity --help' says more");
	text = read_text(&common, file, &bytes);
	probe_model(&common, argv[optind], &s.info, NULL);
	if (s.info.context < 2)
		fail(&common, EXIT_FAILED, "%s has a context of one token, which predicts none; "
		     "compile the model with a larger --context", argv[optind]);
	if (dir)
		open_reference(&common, dir, argv[optind], &s.reference);
	device = open_device(&common, argv[optind]);
	model = load_model(&common, device, argv[optind], true);
	flm_model_info(model, &s.info);
	ids = tokenize(&common, model, text, bytes, &count);
	if (count < 2)
		fail(&common, EXIT_FAILED, "%s has too little text to score; name a longer one",
		     file);
	score_all(&common, &s, model, ids, count, windows);
	print(&common, &s.ppl, s.windows);
	if (dir) {
		free(s.reference.logits);
		float_close(s.reference.model);
		checkpoint_close(s.reference.cp);
	}
	free(ids);
	free(text);
	flm_model_free(model);
	flm_device_close(device);
	return EXIT_DONE;
}

const struct command perplexity_command = {
	"perplexity", "how well a model predicts a text, against float32", help, perplexity_main,
};
