// SPDX-License-Identifier: MIT
/* Shared by the sub-commands; see tool.h. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/tool.h"

static bool has_bar;			/* on the terminal, in the line where a message would go */

static void clear_bar(void)
{
	if (has_bar)
		fputs("\r\033[K", stderr);
	has_bar = false;
}

void fail(const struct common *common, int status, const char *format, ...)
{
	va_list args;

	fflush(stdout);
	clear_bar();
	fputs("flightllm", stderr);
	if (common->command)
		fprintf(stderr, " %s", common->command->name);
	fputs(": ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(status);
}

static int status_of(int error)
{
	switch (-error) {
	case ENODEV:
	case ENXIO:
	case ENOENT:
		return EXIT_NO_DEVICE;
	case EACCES:
	case EPERM:
		return EXIT_PERMISSION;
	case EBUSY:
	case ENOSPC:	/* of the card's memory: others have it */
		return EXIT_BUSY;
	case ETIME:
	case ETIMEDOUT:
		return EXIT_TIMEOUT;
	case ECANCELED:
		return EXIT_CARD_LOST;
	case EPROTO:
		return EXIT_VERSION;
	default:
		return EXIT_FAILED;
	}
}

void fail_flm(const struct common *common, int error)
{
	fail(common, status_of(error), "%s", flm_error());
}

void check_stdout(const struct common *common)
{
	errno = 0;
	if (fflush(stdout) || ferror(stdout))
		fail(common, EXIT_FAILED, "standard output: %s; make room there, or write to another "
		     "place", errno ? strerror(errno) : "it cannot be written");
}

/* Says why getopt_long() has refused an option, and exits. */
__attribute__((noreturn))
static void refuse_option(const struct common *common, int why, char **argv,
			  const struct option *options)
{
	const char *word = argv[optind - 1];	/* except a letter before others */
	const char *name = common->command->name;
	char letter[] = { '-', optopt, 0 };
	bool is_long = false;

	for (const struct option *o = options; o->name; o++)
		is_long |= o->val == optopt;
	if (why == ':')
		fail(common, EXIT_USAGE, "%s needs a value; 'flightllm %s --help' tells which",
		     strncmp(word, "--", 2) ? letter : word, name);
	if (optopt && is_long)
		fail(common, EXIT_USAGE, "%s: this option takes no value; 'flightllm %s --help' lists "
		     "them", word, name);
	fail(common, EXIT_USAGE, "unknown option %s; 'flightllm %s --help' lists those known",
	     optopt ? letter : word, name);
}

int next_option(const struct common *common, int argc, char **argv, const char *letters,
		const struct option *options)
{
	char all[32];
	int option;

	opterr = 0;
	snprintf(all, sizeof(all), ":hV%s", letters);
	option = getopt_long(argc, argv, all, options, NULL);
	if (option == '?' || option == ':')
		refuse_option(common, option, argv, options);
	return option;
}

void common_option(struct common *common, int option)
{
	switch (option) {
	case 'h':
		fputs(common->command->help, stdout);
		check_stdout(common);
		exit(EXIT_DONE);
	case 'V':
		puts("flightllm " FLM_VERSION);
		check_stdout(common);
		exit(EXIT_DONE);
	case 'd':
		common->device = optarg;
		break;
	case OPT_EMULATE:
		common->emulate = true;
		common->profile = optarg;
		break;
	case OPT_JSON:
		common->json = true;
		break;
	}
	if (common->emulate && common->device)
		fail(common, EXIT_USAGE, "-d names a card of this machine and --emulate one in the "
		     "process; give one of them");
}

void probe_model(const struct common *common, const char *path, struct flm_model_info *info,
		 char **notes)
{
	int ret = flm_model_probe(path, info, notes);

	if (ret)
		fail(common, ret == -EACCES ? EXIT_PERMISSION :
		     ret == -EPROTO ? EXIT_VERSION : EXIT_FAILED, "%s", flm_error());
}

struct flm_device *open_device(const struct common *common, const char *model_path)
{
	struct flm_model_info info = { 0 };
	struct flm_device *device;
	char name[32 + FLM_NAME_BYTES];
	int ret;

	if (model_path)
		probe_model(common, model_path, &info, NULL);
	if (common->emulate) {
		snprintf(name, sizeof(name), "emulate:%s", common->profile ? common->profile :
			 model_path ? info.card : "u280");
		ret = flm_device_open(name, &device);
		if (ret == -EINVAL && !common->profile)
			fail(common, EXIT_VERSION, "%s was compiled for card %s; %s; compile it for "
			     "one of them", model_path, info.card, flm_error());
		if (ret == -EINVAL)
			fail(common, EXIT_USAGE, "--emulate=%s: %s", common->profile, flm_error());
	} else {
		ret = flm_device_open(common->device, &device);
		if (ret == -EINVAL)
			fail(common, EXIT_USAGE, "%s: %s",
			     common->device ? "--device" : "FLIGHTLLM_DEVICE", flm_error());
	}
	if (ret)
		fail_flm(common, ret);
	return device;
}

uint64_t parse_count(const struct common *common, const char *option, const char *text,
		     uint64_t least, uint64_t most)
{
	int base = text[0] == '0' && (text[1] == 'x' || text[1] == 'X') ? 16 : 10;
	unsigned long long value;
	char *end;

	errno = 0;
	value = strtoull(text, &end, base);	/* 010 is ten */
	if (errno || !isdigit((unsigned char)text[0]) || *end || value < least || value > most)
		fail(common, EXIT_USAGE, "%s takes a whole number from %llu to %llu, not '%s'",
		     option, (unsigned long long)least, (unsigned long long)most, text);
	return value;
}

double parse_real(const struct common *common, const char *option, const char *text, double least,
		  double most)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || !(value >= least && value <= most))
		fail(common, EXIT_USAGE, "%s takes a number from %g to %g, not '%s'", option, least,
		     most, text);
	return value;
}

double now_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec * 1e-9;
}

void progress_draw(void *opaque, uint64_t done, uint64_t all)
{
	struct progress *progress = opaque;
	int now = all ? (int)(done * 1000.0 / all) : 1000;
	char bar[31];

	if (progress->is_off || !isatty(STDERR_FILENO) || now == progress->last)
		return;
	progress->last = now;
	has_bar = true;
	for (int i = 0; i < 30; i++)
		bar[i] = i * 1000 < now * 30 ? '#' : '.';
	bar[30] = 0;
	fprintf(stderr, "\r%s [%s] %3d %% of %.1f %s", progress->what, bar, now / 10,
		all / (progress->unit ? 1.0 : 1e6), progress->unit ? progress->unit : "MB");
}

void progress_end(void)
{
	clear_bar();
}

struct flm_model *load_model(const struct common *common, struct flm_device *device,
			     const char *path, bool needs_tokenizer)
{
	struct progress progress = { .what = "loading", .is_off = common->quiet, .last = -1 };
	struct flm_load_options options = {
		.progress = progress_draw, .opaque = &progress, .needs_tokenizer = needs_tokenizer,
	};
	struct flm_model *model;
	int ret;

	ret = flm_model_load(device, path, &options, &model);
	progress_end();
	if (ret)
		fail(common, ret == -ENOENT ? EXIT_FAILED : status_of(ret), "%s", flm_error());
	return model;
}

json_t *json_text(const char *text)
{
	json_t *value = json_string(text);
	char *copy;

	if (value)
		return value;
	copy = strdup(text);
	for (char *c = copy; c && *c; c++)
		if (*c & 0x80)
			*c = '?';
	value = json_string(copy ? copy : "");
	free(copy);
	return value;
}

void print_pci(const struct flm_pci_info *row)
{
	printf("   %s", row->name);
	if (row->serial)
		printf(", serial %016llx", (unsigned long long)row->serial);
	printf("\n   ");
	if (row->link_width)
		printf("link %g GT/s x%u of %g GT/s x%u", row->link_mts / 1e3, row->link_width,
		       row->link_mts_max / 1e3, row->link_width_max);
	else
		printf("link unknown, root may see it");
	for (int i = 0; i < 6; i++)
		if (row->bar_bytes[i])
			printf(", BAR%d %g %s", i,
			       row->bar_bytes[i] / (row->bar_bytes[i] >> 20 ? 1048576.0 : 1024.0),
			       row->bar_bytes[i] >> 20 ? "MiB" : "KiB");
	putchar('\n');
}

json_t *pci_json(const struct flm_pci_info *row)
{
	json_t *bars = json_array();
	char serial[17] = "";

	for (int i = 0; i < 6; i++)
		json_array_append_new(bars, json_integer((json_int_t)row->bar_bytes[i]));
	if (row->serial)
		snprintf(serial, sizeof(serial), "%016llx", (unsigned long long)row->serial);
	return json_pack("{s:s, s:o, s:s, s:s, s:i, s:i, s:i, s:i, s:o}",
			 "bus", row->bus, "name", json_text(row->name), "driver", row->driver,
			 "serial", serial, "link_width", row->link_width,
			 "link_width_max", row->link_width_max, "link_mts", row->link_mts,
			 "link_mts_max", row->link_mts_max, "bar_bytes", bars);
}

void print_json(json_t *object)
{
	json_t *all = json_pack("{s:s}", "schema", "flightllm/1");

	json_object_update(all, object);
	json_dumpf(all, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
	putchar('\n');
	json_decref(all);
	json_decref(object);
}

char *read_text(const struct common *common, const char *path, size_t *bytes)
{
	FILE *file = strcmp(path, "-") ? fopen(path, "rb") : stdin;
	size_t used = 0, room = 1 << 16, n;
	char *text = malloc(room + 1), *larger;

	if (!file)
		fail(common, errno == EACCES ? EXIT_PERMISSION : EXIT_FAILED, "%s: %s; name a text "
		     "that you may read", path, strerror(errno));
	while (text && (n = fread(text + used, 1, room - used, file)) > 0) {
		used += n;
		if (used < room)
			continue;
		room *= 2;
		larger = realloc(text, room + 1);
		if (!larger)
			free(text);
		text = larger;
	}
	if (!text)
		fail(common, EXIT_FAILED, "%s: no memory for it", path);
	if (ferror(file))
		fail(common, EXIT_FAILED, "%s: %s; name a text that you may read", path,
		     strerror(errno));
	if (file != stdin)
		fclose(file);
	text[used] = 0;
	*bytes = used;
	return text;
}
