// SPDX-License-Identifier: MIT
/*
 * flightllm run: a prompt goes in, text comes out as the card makes it. Text is stdout, and all
 * else (bar, speed, a chat's questions) stderr, so that the output can be piped. A chat is one
 * session, to which each line is a turn.
 */
#include <errno.h>
#include <float.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tools/tool.h"

static const char help[] =
	"Usage: flightllm run MODEL.flm [OPTION]...\n"
	"Continues a text, streaming the words as the card makes them.\n\n"
	"  -p, --prompt TEXT    the text to continue (default: empty)\n"
	"  -f, --file FILE      the text is in FILE; '-' is stdin\n"
	"  -n, --tokens N       tokens to generate (default 200)\n"
	"      --temp T         temperature; 0 takes the most likely token (default 0.8)\n"
	"      --top-k K        only the K most likely (default 40, 0: all)\n"
	"      --top-p P        only the most likely that make up P (default 0.95, 1: off), and\n"
	"                       always the first\n"
	"      --min-p P        only those at least P times as likely as the first (default 0.05)\n"
	"      --seed S         of the random numbers (default: from the clock)\n"
	"      --stop TEXT      end when the output contains TEXT (may be given more than once)\n"
	"      --ignore-eos     go on after the model's end-of-text token\n"
	"      --chat           read lines from the terminal or stdin, one turn each; /help there\n"
	"                       lists commands, Ctrl-C ends an answer, Ctrl-D the chat\n"
	"      --system TEXT    what a chat begins with: instructions to the model\n"
	"      --stats          say on stderr what it cost on the bus\n"
	"  -q, --quiet          no bar, no speed and no advice on stderr\n"
	"  -d, --device CARD    number, node or PCI address (default: $FLIGHTLLM_DEVICE, or the first)\n"
	"      --emulate[=CARD] a card inside this process instead; no driver is needed\n"
	"      --json           one JSON object at the end, or after each turn, instead of streaming\n"
	"  -h, --help, -V, --version\n";

#define STOPS_MAX 16

struct run {
	struct common common;
	const char *prompt, *file;	/* the text, or where it is */
	struct flm_model *model;
	struct flm_session *session;
	struct flm_tokenizer *tokenizer;
	struct flm_detokenizer *words;
	struct flm_sampler sampler;
	unsigned int generate;
	bool ignore_eos, stats;
	bool is_chat;
	bool is_llama2;			/* a turn is written as LLaMA-2 was trained to read it */
	const char *system;		/* for the first turn; NULL: none, or it has been said */
	bool is_begun;			/* the context holds something */
	bool is_ended;			/* and that ends with the model's end-of-text token */
	int64_t last;			/* token that the session has pending, -1: none */
	bool is_taken_back;		/* it went with a turn: the next one brings it again */
	const char *stop[STOPS_MAX];
	unsigned int stops;
	char *text;			/* all of the output so far */
	size_t used, room, shown;
	bool is_stopped;		/* by a stop text */
};

/*
 * Ctrl-C. Stopping a session takes locks, which a signal handler may not: it rings a bell, and a
 * thread that waits for it stops the session.
 */
static volatile sig_atomic_t interrupted;
static int bell = -1;			/* eventfd */
static bool is_over;			/* atomic: the bell means the end of listening */

static void ring(void)
{
	const uint64_t one = 1;

	(void)!write(bell, &one, sizeof(one));
}

static void on_interrupt(int signal)
{
	int error = errno;

	(void)signal;
	if (interrupted)
		_exit(130);
	interrupted = 1;
	ring();
	errno = error;
}

static void *hear(void *session)
{
	uint64_t n;

	while (read(bell, &n, sizeof(n)) == sizeof(n)) {
		if (__atomic_load_n(&is_over, __ATOMIC_SEQ_CST))
			break;
		/* Else that answer has ended, and a new one may have begun. */
		if (interrupted)
			flm_session_stop(session);
	}
	return NULL;
}

static void append(struct run *run, const char *bytes, size_t count)
{
	if (run->used + count + 1 > run->room) {
		run->room = 2 * (run->used + count + 1);
		run->text = realloc(run->text, run->room);
		if (!run->text)
			fail(&run->common, EXIT_FAILED, "no memory for the output");
	}
	memcpy(run->text + run->used, bytes, count);
	run->used += count;
	run->text[run->used] = 0;
}

/* Bytes at the end of the output that may be the beginning of a stop text: not shown yet. */
static size_t held_back(const struct run *run)
{
	size_t held = 0;

	for (unsigned int s = 0; s < run->stops; s++) {
		size_t length = strlen(run->stop[s]);

		for (size_t n = length - 1; n > held; n--)
			if (n <= run->used - run->shown &&
			    !memcmp(run->text + run->used - n, run->stop[s], n))
				held = n;
	}
	return held;
}

static void show(struct run *run, bool all)
{
	size_t end = run->used - (all ? 0 : held_back(run));

	if (!run->common.json)
		fwrite(run->text + run->shown, 1, end - run->shown, stdout);
	run->shown = end;
	check_stdout(&run->common);
}

static bool on_token(void *opaque, uint32_t token)
{
	struct run *run = opaque;
	size_t count, from = run->shown;
	const char *bytes = flm_detokenizer_push(run->words, token, &count);

	run->last = token;
	append(run, bytes, count);
	for (unsigned int s = 0; s < run->stops && count; s++) {
		char *found = memmem(run->text + from, run->used - from, run->stop[s],
				     strlen(run->stop[s]));

		if (!found)
			continue;
		run->used = found - run->text;
		run->is_stopped = true;
	}
	show(run, run->is_stopped);
	return run->is_stopped || interrupted;
}

static void report(const struct run *run, unsigned int prompt, const struct flm_result *result)
{
	double prefill = result->prefill_ns * 1e-9, decode = result->decode_ns * 1e-9;

	if (run->common.quiet || run->common.json)
		return;
	fprintf(stderr, "prompt %u tokens in %.2f s (%.1f tokens/s), "
		"generated %u in %.2f s (%.1f tokens/s)\n", prompt, prefill,
		prefill > 0 ? prompt / prefill : 0, result->tokens, decode,
		decode > 0 && result->tokens > 1 ? (result->tokens - 1) / decode : 0);
}

/*
 * The prompt goes through the detokenizer too, so that what follows is joined to it as the model
 * means it. It is shown, except in a chat, where its author has seen it.
 */
static void echo(struct run *run, const uint32_t *ids, size_t count)
{
	size_t bytes;

	for (size_t i = 0; i < count; i++) {
		const char *text = flm_detokenizer_push(run->words, ids[i], &bytes);

		if (!run->common.json && !run->is_chat)
			fwrite(text, 1, bytes, stdout);
	}
	if (run->is_chat)
		flm_detokenizer_finish(run->words, &bytes);
	check_stdout(&run->common);
}

/* The text of a turn as the model reads it; the caller frees it. */
static char *dress(const struct run *run, const char *text, size_t *bytes)
{
	const char *tail = run->is_llama2 ? " [/INST]" : "";
	char *head, *all;
	int n;

	if (!run->system)
		n = asprintf(&head, "%s", run->is_llama2 ? "[INST] " : "");
	else if (run->is_llama2)
		n = asprintf(&head, "[INST] <<SYS>>\n%s\n<</SYS>>\n\n", run->system);
	else
		n = asprintf(&head, "%s\n", run->system);
	all = n < 0 ? NULL : malloc(n + *bytes + strlen(tail) + 1);
	if (!all)
		fail(&run->common, EXIT_FAILED, "no memory for a prompt of %zu bytes", *bytes);
	memcpy(all, head, n);
	memcpy(all + n, text, *bytes);
	strcpy(all + n + *bytes, tail);
	*bytes += n + strlen(tail);
	free(head);
	return all;
}

/*
 * The ids of a turn: what a text begins with where none has begun or the last has ended, then the
 * words. An answer that LLaMA-2 was not left to end is ended for it.
 */
static uint32_t *encode_turn(struct run *run, const struct flm_model_info *info, const char *text,
			     size_t bytes, unsigned int *count)
{
	char *dressed = dress(run, text, &bytes);
	bool is_cut_off = run->is_llama2 && run->is_begun && !run->is_ended && info->eos_count;
	uint32_t *ids = malloc((ID_ROOM(bytes) + 3) * sizeof(*ids));
	size_t used = 0, n;
	int ret;

	if (!ids)
		fail(&run->common, EXIT_FAILED, "no memory for a prompt of %zu bytes", bytes);
	if (run->is_taken_back)
		ids[used++] = run->last;
	if (is_cut_off)
		ids[used++] = info->eos[0];
	if (!run->is_begun || run->is_ended || is_cut_off)
		ids[used++] = info->bos;
	ret = flm_tokenizer_encode(run->tokenizer, dressed, bytes, ids + used, ID_ROOM(bytes), &n);
	if (ret)
		fail_flm(&run->common, ret);
	free(dressed);
	*count = used + n;
	return ids;
}

static void print_result(const struct run *run, unsigned int prompt,
			 const struct flm_result *result)
{
	print_json(json_pack("{s:s%, s:i, s:i, s:f, s:f, s:s}", "text", run->text ? run->text : "",
			     run->used, "prompt_tokens", (int)prompt,
			     "tokens", (int)result->tokens, "prefill_s", result->prefill_ns * 1e-9,
			     "decode_s", result->decode_ns * 1e-9,
			     "end", run->is_stopped ? "stop_text" : flm_end_name(result->end)));
}

/*
 * A turn that was ended in the middle of its prompt was not said: the context is as it was before,
 * except the pending token, which goes with the text behind it.
 */
static int take_back(struct run *run, unsigned int start)
{
	int ret = flm_session_truncate(run->session, start);

	run->is_taken_back = run->last >= 0;
	if (!ret && run->is_chat && !run->common.quiet)
		fputs("flightllm run: ended before the answer began; this turn is forgotten\n",
		      stderr);
	return ret;
}

/* One prompt and its answer. -EOVERFLOW: too long for what is left, and nothing has changed. */
static int turn(struct run *run, const char *text, size_t bytes)
{
	struct flm_model_info info;
	struct flm_result result;
	struct flm_request request = {
		.generate = run->generate, .sampler = run->sampler, .on_token = on_token,
		.opaque = run,
	};
	unsigned int start = flm_session_position(run->session);
	uint32_t *ids;
	size_t count;
	const char *tail;
	int ret;

	/* Where the last token will be again, if the session does not have it already. */
	start -= run->last >= 0 && !run->is_taken_back;
	flm_model_info(run->model, &info);
	ids = encode_turn(run, &info, text, bytes, &request.count);
	request.tokens = ids;
	if (!run->ignore_eos) {
		request.stop = info.eos;
		request.stop_count = info.eos_count;
	}
	run->used = run->shown = 0;
	run->is_stopped = false;
	/* A text that is too long is refused before it is shown. */
	if (flm_session_position(run->session) + request.count <= info.context)
		echo(run, ids, request.count);
	ret = flm_session_generate(run->session, &request, &result);
	free(ids);
	if (ret)
		return ret;
	if (result.end == FLM_END_STOPPED && !result.tokens) {
		ret = take_back(run, start);
		if (ret)
			return ret;
	} else {
		run->system = NULL;
		run->is_begun = true;
		run->is_ended = result.end == FLM_END_STOP_TOKEN;
		run->is_taken_back = false;
		if (!result.tokens)
			run->last = -1;
	}
	tail = flm_detokenizer_finish(run->words, &count);
	if (!run->is_stopped)
		append(run, tail, count);
	show(run, true);
	if (run->common.json)
		print_result(run, request.count, &result);
	else
		putchar('\n');
	check_stdout(&run->common);
	report(run, request.count, &result);
	if (result.end == FLM_END_CONTEXT_FULL && !run->common.quiet)
		fprintf(stderr, "flightllm run: the context of %u tokens is full; %sa model that "
			"was made for more positions holds more, compiled with a larger --context\n",
			info.context, run->is_chat ? "/clear begins a new one, " : "");
	return 0;
}

/* Whether a system call goes on after a signal: a request does, waiting for a line does not. */
static void catch_interrupt(bool goes_on)
{
	struct sigaction action = { .sa_handler = on_interrupt };

	action.sa_flags = goes_on ? SA_RESTART : 0;
	sigaction(SIGINT, &action, NULL);
}

/* The signal is the main thread's, which may be waiting for a line. */
static void start_hearing(const struct run *run, pthread_t *hearer)
{
	sigset_t interrupt, old;
	int ret;

	sigemptyset(&interrupt);
	sigaddset(&interrupt, SIGINT);
	bell = eventfd(0, EFD_CLOEXEC);
	pthread_sigmask(SIG_BLOCK, &interrupt, &old);
	ret = bell < 0 ? errno : pthread_create(hearer, NULL, hear, run->session);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret)
		fail(&run->common, EXIT_FAILED, "cannot wait for Ctrl-C: %s", strerror(ret));
}

/* From here on Ctrl-C ends the process as it does elsewhere. */
static void stop_hearing(pthread_t hearer)
{
	signal(SIGINT, SIG_DFL);
	__atomic_store_n(&is_over, true, __ATOMIC_SEQ_CST);
	ring();
	pthread_join(hearer, NULL);
	close(bell);
}

/* The next line, without its end; false at the end of the input or on Ctrl-C. */
static bool read_line(const struct run *run, char **line, size_t *room, size_t *bytes)
{
	ssize_t n;

	interrupted = 0;
	if (isatty(STDIN_FILENO))
		fputs("> ", stderr);
	catch_interrupt(false);
	n = getline(line, room, stdin);
	catch_interrupt(true);
	if (n < 0 && !interrupted && ferror(stdin))
		fail(&run->common, EXIT_FAILED, "standard input: %s; redirect a text to it",
		     strerror(errno));
	if (n < 0 || interrupted) {
		if (isatty(STDIN_FILENO))
			fputc('\n', stderr);
		return false;
	}
	while (n && ((*line)[n - 1] == '\n' || (*line)[n - 1] == '\r'))
		n--;
	*bytes = n;
	(*line)[n] = 0;
	return true;
}

/* A line that begins with a slash. False ends the chat. */
static bool obey(struct run *run, const char *line, const char *system)
{
	if (!strcmp(line, "/exit"))
		return false;
	if (!strcmp(line, "/clear")) {
		int ret = flm_session_truncate(run->session, 0);

		if (ret)
			fail_flm(&run->common, ret);
		run->is_begun = run->is_ended = run->is_taken_back = false;
		run->last = -1;
		run->system = system;
	} else if (!strcmp(line, "/help")) {
		fprintf(stderr, "/clear  forget all that was said\n"
			"/exit   end the chat, as Ctrl-D does\n"
			"/help   this list\n"
			"Ctrl-C ends an answer. %s\n", run->is_llama2 ?
			"Turns are written as LLaMA-2 was trained: [INST] ... [/INST]." :
			"Turns are joined as plain text; an empty line lets the model go on.");
	} else {
		fprintf(stderr, "flightllm run: unknown command %s; /help lists those known\n",
			line);
	}
	return true;
}

/* The form of a chat that the compiler noted; a warning, once, if it is not possible. */
static void choose_form(struct run *run)
{
	struct flm_model_info info;
	json_t *notes;
	const char *form;

	flm_model_info(run->model, &info);
	notes = json_loads(info.notes, 0, NULL);
	if (!notes && *info.notes && !run->common.quiet)
		fputs("flightllm run: the compiler's notes in this model cannot be read, so its chat "
		      "form is not known; turns are joined as plain text; compile it again\n",
		      stderr);
	form = json_string_value(json_object_get(notes, "chat"));
	run->is_llama2 = form && !strcmp(form, "llama2");
	if (form && !run->is_llama2 && !run->common.quiet)
		fputs("flightllm run: this model has a chat template of its own, which is not known "
		      "here; turns are joined as plain text\n", stderr);
	json_decref(notes);
}

/* first: a turn before all lines, or NULL. */
static void chat(struct run *run, const char *first)
{
	const char *system = run->system;
	size_t room = 0, bytes = 0;
	char *line = NULL;
	int ret;

	choose_form(run);
	if (first) {
		ret = turn(run, first, strlen(first));
		if (ret)
			fail_flm(&run->common, ret);
	}
	while (read_line(run, &line, &room, &bytes)) {
		if (line[0] == '/') {
			if (!obey(run, line, system))
				break;
			continue;
		}
		if (!bytes && run->is_llama2)
			continue;
		ret = turn(run, line, bytes);
		if (ret && (ret != -EOVERFLOW || !isatty(STDIN_FILENO)))
			fail_flm(&run->common, ret);
		if (ret)
			fprintf(stderr, "flightllm run: %s; /clear begins a new one\n",
				flm_error());
	}
	free(line);
}

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static void print_count(uint64_t count, const char *what, const char *end)
{
	fprintf(stderr, "%llu %s%s%s", (unsigned long long)count, what, count == 1 ? "" : "s", end);
}

/* Counts since before[1], without the cost of the query itself, which before[] shows. */
static void print_costs(struct flm_device *device, const struct flm_counters before[2])
{
	struct flm_counters after;

	if (flm_device_counters(device, &after))
		return;
	fputs("on the bus: ", stderr);
	print_count(after.doorbells - before[1].doorbells, "doorbell", ", ");
	print_count(after.kicks - before[1].kicks, "kick", ", ");
	print_count(less(after.register_reads - before[1].register_reads,
			 before[1].register_reads - before[0].register_reads),
		    "register read", ", ");
	print_count(less(after.register_writes - before[1].register_writes,
			 before[1].register_writes - before[0].register_writes),
		    "register write", ", ");
	print_count(after.interrupts - before[1].interrupts, "interrupt", " for ");
	print_count(after.tokens - before[1].tokens, "token", "\n");
}

enum {
	OPT_TEMP = OPT_OWN, OPT_TOP_K, OPT_TOP_P, OPT_MIN_P, OPT_SEED, OPT_STOP, OPT_IGNORE_EOS,
	OPT_CHAT, OPT_SYSTEM, OPT_STATS
};

static const struct option options[] = {
	CARD_OPTIONS,
	{ "prompt", required_argument, NULL, 'p' },
	{ "file", required_argument, NULL, 'f' },
	{ "tokens", required_argument, NULL, 'n' },
	{ "temp", required_argument, NULL, OPT_TEMP },
	{ "top-k", required_argument, NULL, OPT_TOP_K },
	{ "top-p", required_argument, NULL, OPT_TOP_P },
	{ "min-p", required_argument, NULL, OPT_MIN_P },
	{ "seed", required_argument, NULL, OPT_SEED },
	{ "stop", required_argument, NULL, OPT_STOP },
	{ "ignore-eos", no_argument, NULL, OPT_IGNORE_EOS },
	{ "chat", no_argument, NULL, OPT_CHAT },
	{ "system", required_argument, NULL, OPT_SYSTEM },
	{ "stats", no_argument, NULL, OPT_STATS },
	{ "quiet", no_argument, NULL, 'q' },
	{ 0 }
};

static void read_options(struct run *run, int argc, char **argv)
{
	struct common *common = &run->common;
	int option;

	while ((option = next_option(common, argc, argv, "p:f:n:qd:", options)) != -1) {
		switch (option) {
		case 'p': run->prompt = optarg; break;
		case 'f': run->file = optarg; break;
		case 'n': run->generate = parse_count(common, "-n", optarg, 0, 1 << 20); break;
		case 'q': common->quiet = true; break;
		case OPT_TEMP:
			run->sampler.temperature = parse_real(common, "--temp", optarg, 0, 100);
			break;
		case OPT_TOP_K:
			run->sampler.top_k = parse_count(common, "--top-k", optarg, 0, 1 << 20);
			break;
		case OPT_TOP_P:
			run->sampler.top_p = parse_real(common, "--top-p", optarg, 0, 1);
			/* The library's 0 is a filter that nobody asked for. */
			if (run->sampler.top_p < FLT_MIN)
				run->sampler.top_p = FLT_MIN;
			break;
		case OPT_MIN_P:
			run->sampler.min_p = parse_real(common, "--min-p", optarg, 0, 1);
			break;
		case OPT_SEED:
			run->sampler.seed = parse_count(common, "--seed", optarg, 0, UINT64_MAX);
			break;
		case OPT_STOP:
			if (run->stops == STOPS_MAX || !*optarg)
				fail(common, EXIT_USAGE, "--stop takes a text that is not empty, at "
				     "most %d times", STOPS_MAX);
			run->stop[run->stops++] = optarg;
			break;
		case OPT_IGNORE_EOS: run->ignore_eos = true; break;
		case OPT_CHAT: run->is_chat = true; break;
		case OPT_SYSTEM: run->system = optarg; break;
		case OPT_STATS: run->stats = true; break;
		default: common_option(common, option);
		}
	}
	if (optind < argc && argc - optind == 2 && !strcmp(argv[optind + 1], "-"))
		run->file = argv[--argc];
	if (argc - optind != 1)
		fail(common, EXIT_USAGE, "takes one model file; 'flightllm run --help' says more");
	if (run->prompt && run->file)
		fail(common, EXIT_USAGE, "-p and -f both give the text; give one of them");
	if (run->is_chat && run->file)
		fail(common, EXIT_USAGE, "--chat reads turns from stdin; redirect '%s' to it, or give "
		     "the first turn with -p", run->file);
	if (run->system && !run->is_chat)
		fail(common, EXIT_USAGE, "--system belongs to --chat; without one, put it in front of "
		     "the text");
}

static int run_main(int argc, char **argv)
{
	struct run run = {
		.common.command = &run_command,
		.sampler = { .temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f },
		.generate = 200, .last = -1,
	};
	struct common *common = &run.common;
	struct flm_counters before[2];
	struct flm_device *device;
	pthread_t hearer;
	char *text = NULL;
	size_t bytes;
	int ret;

	run.sampler.seed = (uint64_t)(now_seconds() * 1e9);
	read_options(&run, argc, argv);
	if (run.file)
		text = read_text(common, run.file, &bytes);
	device = open_device(common, argv[optind]);
	run.model = load_model(common, device, argv[optind], true);
	run.tokenizer = flm_model_tokenizer(run.model);
	ret = flm_session_new(run.model, NULL, &run.session);
	if (!ret)
		ret = flm_detokenizer_new(run.tokenizer, &run.words);
	if (ret)
		fail_flm(common, ret);
	start_hearing(&run, &hearer);
	catch_interrupt(true);
	/* Two in a row say what the asking itself costs. */
	if (run.stats && (flm_device_counters(device, &before[0]) ||
			  flm_device_counters(device, &before[1])))
		run.stats = false;
	if (run.is_chat) {
		chat(&run, run.prompt);
	} else {
		ret = turn(&run, text ? text : run.prompt ? run.prompt : "",
			   text ? bytes : strlen(run.prompt ? run.prompt : ""));
		if (ret)
			fail_flm(common, ret);
	}
	if (run.stats)
		print_costs(device, before);
	stop_hearing(hearer);
	flm_detokenizer_free(run.words);
	flm_session_free(run.session);
	flm_model_free(run.model);
	flm_device_close(device);
	free(run.text);
	free(text);
	return interrupted ? 130 : EXIT_DONE;
}

const struct command run_command = {
	"run", "continue a text, streaming", help, run_main,
};
