// SPDX-License-Identifier: MIT
/*
 * flightllm-emu: a FlightLLM card as a vfio-user device, for QEMU or any other client.
 *
 * The one idea: this thread owns the socket and only answers it. The card's threads do all work, so
 * an answer never waits for a computation.
 */
#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <flightllm/isa.h>
#include <flightllm/names.h>
#include <flightllm/regs.h>

#include "emulator/card.h"
#include "emulator/link/vfu.h"

struct options {
	const char *socket, *trace;
	bool keep;
	struct card_options card;
};

static const char help[] =
	"Usage: flightllm-emu --socket PATH --card NAME [options]\n"
	"\n"
	"Emulates a FlightLLM card as a vfio-user PCI device on a UNIX socket. QEMU 10.1 or newer "
	"plugs it\n"
	"in with\n"
	"  -device "
	"'{\"driver\":\"vfio-user-pci\",\"socket\":{\"path\":\"PATH\",\"type\":\"unix\"}}'\n"
	"and memory that is shared (-object memory-backend-memfd,share=on); flightllm-vm does all "
	"of it.\n"
	"\n"
	"  --socket PATH   where to listen\n"
	"  --card NAME     one of"
#define PROFILE(name, ...) " " #name
#include "emulator/profile.def"
	"\n"
	"  --mem SIZE      HBM of all cores together; DDR has no more than that either (default: the "
	"card's);\n"
	"                  taken as it is touched\n"
	"  --bar2 SIZE     window on card memory, a power of two from 16M (default 256M)\n"
	"  --threads N     threads that compute (default: one a processor)\n"
	"  --faults LIST   faults to inject: NAME or NAME@N, separated by commas; N counts jobs for "
	"hang, deaf,\n"
	"                  dma-error, bad-completion, dead-heartbeat and removal, interrupts for "
	"lost-interrupt\n"
	"                  and late-interrupt\n"
	"  --trace FILE    one line for each thing that happens\n"
	"  --serial N      serial number\n"
	"  --keep          wait for another client when one has left; the card is then as after "
	"power-on,\n"
	"                  and what the last client has mapped of it is no longer its memory\n"
	"  -h, --help, -V, --version\n"
	"\n"
	"SIZE is a number of bytes or ends in K, M, G or T. Ends with status 0 when the client has "
	"left or on\n"
	"SIGTERM, 1 when something failed, 2 for wrong usage, 4 without permission for a file or a "
	"socket.\n";

__attribute__((format(printf, 1, 2), noreturn))
static void usage_error(const char *format, ...)
{
	va_list args;

	fputs("flightllm-emu: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputs("; see flightllm-emu --help\n", stderr);
	exit(EXIT_USAGE);
}

/* For a file or socket that cannot be made: `remedy` says what to name instead. */
__attribute__((noreturn))
static void place_error(const char *option, const char *path, const char *remedy)
{
	errx(errno == EACCES || errno == EPERM ? EXIT_PERMISSION : EXIT_FAILED, "%s %s: %s; %s",
	     option, path, strerror(errno), remedy);
}

/* Ends after a text on stdout, which may have failed. */
__attribute__((noreturn))
static void finish(void)
{
	if (fflush(stdout) || ferror(stdout))
		err(EXIT_FAILED, "standard output");
	exit(0);
}

static uint64_t parse_number(const char *option, const char *text)
{
	int base = text[0] == '0' && (text[1] == 'x' || text[1] == 'X') ? 16 : 10;
	unsigned long long value;
	char *end;

	errno = 0;
	value = strtoull(text, &end, base);	/* 010 is ten */
	if (errno || !isdigit((unsigned char)*text) || *end)
		usage_error("%s %s: this is not a number", option, text);
	return value;
}

static uint64_t parse_size(const char *option, const char *text)
{
	static const char units[] = "KMGT";
	unsigned long long value;
	uint64_t bytes;
	const char *unit;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (end == text || errno || *text == '-')
		usage_error("%s %s: this is not a size such as 256M or 8G", option, text);
	unit = *end ? strchr(units, *end) : NULL;
	if (*end && (!unit || end[1]))
		usage_error("%s %s: a size ends in K, M, G or T", option, text);
	if (__builtin_mul_overflow((uint64_t)value, unit ? 1ull << (10 * (unit - units + 1)) : 1,
				   &bytes))
		usage_error("%s %s: too large", option, text);
	if (!bytes)
		usage_error("%s %s: must not be 0", option, text);
	return bytes;
}

enum { SOCKET = 256, CARD, MEM, BAR2, THREADS, FAULTS, TRACE, SERIAL, KEEP };

static const struct option table[] = {
	{ "socket", required_argument, NULL, SOCKET },
	{ "card", required_argument, NULL, CARD },
	{ "mem", required_argument, NULL, MEM },
	{ "bar2", required_argument, NULL, BAR2 },
	{ "threads", required_argument, NULL, THREADS },
	{ "faults", required_argument, NULL, FAULTS },
	{ "trace", required_argument, NULL, TRACE },
	{ "serial", required_argument, NULL, SERIAL },
	{ "keep", no_argument, NULL, KEEP },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ 0 }
};

/* One option of the table, with its value in `text`. */
static void parse_option(struct options *o, int option, const char *text)
{
	uint64_t n;

	switch (option) {
	case SOCKET:
		o->socket = text;
		break;
	case CARD:
		o->card.profile = text;
		break;
	case MEM:
		o->card.mem_bytes = parse_size("--mem", text);
		break;
	case BAR2:
		n = parse_size("--bar2", text);
		if ((n & (n - 1)) || n < 16u << 20)
			usage_error("--bar2 %s: must be a power of two from 16M", text);
		o->card.bar2_bytes = n;
		break;
	case THREADS:
		n = parse_number("--threads", text);
		if (!n || n > 1024)
			usage_error("--threads %s: must be 1 to 1024", text);
		o->card.threads = n;
		break;
	case FAULTS:
		o->card.faults = text;
		break;
	case TRACE:
		o->trace = text;
		break;
	case SERIAL:
		o->card.serial = parse_number("--serial", text);
		break;
	case KEEP:
		o->keep = true;
		break;
	case 'h':
		fputs(help, stdout);
		finish();
	case 'V':
		printf("flightllm-emu 0.1.0 (register map %d.%d, instruction set %d.%d)\n",
		       FLM_MAP_MAJOR, FLM_MAP_MINOR, FLM_ISA_MAJOR, FLM_ISA_MINOR);
		finish();
	}
}

static void parse_options(int argc, char **argv, struct options *o)
{
	char letter[] = "-?";
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":hV", table, NULL)) != -1) {
		if (c == ':')
			usage_error("%s needs a value", argv[optind - 1]);
		if (c == '?') {
			/* A letter, or a long name: one that is known was given a value. */
			letter[1] = optopt;
			usage_error("%s: %s", optopt && optopt < SOCKET ? letter : argv[optind - 1],
				    optopt >= SOCKET || strchr(argv[optind - 1], '=') ?
				    "this option takes no value" : "no such option");
		}
		parse_option(o, c, optarg);
	}
	if (optind < argc)
		usage_error("unexpected argument %s", argv[optind]);
	if (!o->socket)
		usage_error("--socket is missing");
	if (!o->card.profile)
		usage_error("--card is missing");
}

/* Removes a socket without a listener, which a killed emulator leaves. Refuses anything else. */
static void clear_path(const char *path, const struct sockaddr_un *address)
{
	struct stat st;
	int s;

	if (lstat(path, &st))
		return;
	if (!S_ISSOCK(st.st_mode))
		errx(EXIT_FAILED, "%s: exists and is not a socket; choose another path", path);
	s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s < 0)
		err(EXIT_FAILED, "socket");
	if (!connect(s, (const struct sockaddr *)address, sizeof(*address)) || errno == EAGAIN)
		errx(EXIT_FAILED, "%s: in use by another process; choose another path", path);
	close(s);
	if (unlink(path))
		err(EXIT_FAILED, "%s", path);
}

static int listen_on(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	mode_t mask;
	int s;

	if (strlen(path) >= sizeof(address.sun_path))
		errx(EXIT_FAILED, "%s: longer than %zu characters; choose a shorter path", path,
		     sizeof(address.sun_path) - 1);
	strcpy(address.sun_path, path);
	clear_path(path, &address);
	s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s < 0)
		err(EXIT_FAILED, "socket");
	mask = umask(0177);
	if (bind(s, (const struct sockaddr *)&address, sizeof(address)))
		place_error("--socket", path, "name a place in a folder that you may write to");
	umask(mask);
	if (listen(s, 4))
		err(EXIT_FAILED, "%s", path);
	return s;
}

/* Serves one client to its end. Returns false when a signal asks to stop. */
static bool serve_client(struct vfu *vfu, int client, int signals)
{
	struct pollfd p[2] = { { .fd = signals, .events = POLLIN }, { .fd = client } };
	bool go_on = true;
	int ret = 0;

	vfu_connect(vfu, client);
	while (!ret) {
		p[1].events = vfu_wants(vfu);
		/* Once a second for what no message tells: a mapped file that became shorter. */
		if (poll(p, 2, 1000) < 0 && errno != EINTR)
			err(EXIT_FAILED, "poll");
		if (p[0].revents) {
			go_on = false;
			break;
		}
		ret = vfu_serve(vfu);
	}
	if (ret < 0)
		warnx("client dropped: %s", vfu_complaint(vfu));
	vfu_disconnect(vfu);
	return go_on;
}

/*
 * A reset takes its time, and until it is over the last client's bytes are in the card's memory;
 * the next one is not let in before. Returns false when a signal asks to stop.
 */
static bool wait_ready(struct card *card, int signals)
{
	struct pollfd p = { .fd = signals, .events = POLLIN };

	for (;;) {
		uint32_t state = 0;

		card_reg_read(card, FLM_REG_STATE, &state, sizeof(state));
		if (FLM_REG_GET(state, STATE, READY))
			return true;
		if (FLM_REG_GET(state, STATE, FAILED))
			errx(EXIT_FAILED, "cannot clear the card's memory after the last client; "
			     "start flightllm-emu again");
		if (poll(&p, 1, 5) > 0)
			return false;
	}
}

static void serve(struct vfu *vfu, struct card *card, int listener, int signals, bool keep)
{
	struct pollfd p[2] = {
		{ .fd = signals, .events = POLLIN }, { .fd = listener, .events = POLLIN },
	};

	do {
		int client, ret;

		if (poll(p, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			err(EXIT_FAILED, "poll");
		}
		if (p[0].revents)
			return;
		client = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (client < 0)
			continue;	/* it left before we looked */
		if (!serve_client(vfu, client, signals) || !keep || !wait_ready(card, signals))
			return;
		ret = vfu_renew(vfu);
		if (ret)
			errx(EXIT_FAILED, "cannot make the card new for another client: %s; start "
			     "flightllm-emu again", strerror(-ret));
	} while (true);
}

int main(int argc, char **argv)
{
	struct options o = { 0 };
	struct card_host host = { .interrupt = vfu_interrupt };
	char error[CARD_ERROR_BYTES];
	int listener, signals, ret;
	sigset_t stop;
	struct card *card;
	struct vfu *vfu;

	parse_options(argc, argv, &o);
	/* Before the card makes threads: they inherit the mask, and signals come to us alone. */
	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGINT);
	sigaddset(&stop, SIGHUP);
	sigprocmask(SIG_BLOCK, &stop, NULL);
	signals = signalfd(-1, &stop, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals < 0)
		err(EXIT_FAILED, "signalfd");
	if (o.trace) {
		o.card.trace = fopen(o.trace, "we");
		if (!o.card.trace)
			place_error("--trace", o.trace, "name a file that you may write to");
		/* Somebody may be watching it grow. */
		setvbuf(o.card.trace, NULL, _IOLBF, 0);
	}
	vfu = vfu_new();
	if (!vfu)
		errx(EXIT_FAILED, "cannot set up asynchronous I/O for interrupts: %s; %s",
		     strerror(errno), errno == EAGAIN ? "raise fs.aio-max-nr" :
		     "use a kernel that has it, and a container that allows io_setup()");
	host.opaque = vfu;
	ret = card_new(&o.card, &host, &card, error);
	if (ret)
		errx(ret == -EINVAL ? EXIT_USAGE : EXIT_FAILED, "%s", error);
	ret = vfu_plug(vfu, card);
	if (ret)
		errx(EXIT_FAILED, "cannot plug the card into a PCI slot: %s; give a smaller --bar2",
		     strerror(-ret));
	listener = listen_on(o.socket);
	serve(vfu, card, listener, signals, o.keep);
	unlink(o.socket);
	card_free(card);
	vfu_free(vfu);
	if (o.card.trace)
		fclose(o.card.trace);
	return 0;
}
