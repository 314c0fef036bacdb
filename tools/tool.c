// SPDX-License-Identifier: MIT
/* What the sub-commands share; see tool.h. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/tool.h"

void fail(const struct common *common, int status, const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fprintf(stderr, "flightllm %s: ", common->command->name);
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

void common_option(struct common *common, int option)
{
	switch (option) {
	case 'h':
		fputs(common->command->help, stdout);
		exit(EXIT_DONE);
	case 'd':
		common->device = optarg;
		break;
	case OPT_EMULATE:
		common->emulate = true;
		common->device = optarg;
		break;
	case OPT_JSON:
		common->json = true;
		break;
	default:
		fprintf(stderr, "Try 'flightllm %s --help'.\n", common->command->name);
		exit(EXIT_USAGE);
	}
}

struct flm_device *open_device(const struct common *common, const char *model_path)
{
	struct flm_model_info info = { 0 };
	struct flm_device *device;
	char name[32 + FLM_NAME_BYTES];
	int ret;

	if (model_path) {
		ret = flm_model_probe(model_path, &info, NULL);
		if (ret)
			fail(common, ret == -EPROTO ? EXIT_VERSION : EXIT_FAILED, "%s",
			     flm_error());
	}
	if (common->emulate) {
		snprintf(name, sizeof(name), "emulate:%s", common->device ? common->device :
			 model_path ? info.card : "u280");
		ret = flm_device_open(name, &device);
	} else {
		ret = flm_device_open(common->device, &device);
	}
	if (ret)
		fail_flm(common, ret);
	return device;
}

uint64_t parse_count(const struct common *common, const char *option, const char *text,
		     uint64_t least, uint64_t most)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 0);
	if (errno || end == text || *end || text[0] == '-' || value < least || value > most)
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

	if (!isatty(STDERR_FILENO) || now == progress->last)
		return;
	progress->last = now;
	for (int i = 0; i < 30; i++)
		bar[i] = i * 1000 < now * 30 ? '#' : '.';
	bar[30] = 0;
	fprintf(stderr, "\r%s [%s] %3d %% of %.1f %s", progress->what, bar, now / 10,
		all / (progress->unit ? 1.0 : 1e6), progress->unit ? progress->unit : "MB");
}

void progress_end(struct progress *progress)
{
	if (isatty(STDERR_FILENO) && progress->last >= 0)
		fputs("\r\033[K", stderr);
}

struct flm_model *load_model(const struct common *common, struct flm_device *device,
			     const char *path)
{
	struct progress progress = { .what = "loading", .last = -1 };
	struct flm_load_options options = { .progress = progress_draw, .opaque = &progress };
	struct flm_model *model;
	int ret;

	ret = flm_model_load(device, path, &options, &model);
	progress_end(&progress);
	if (ret)
		fail(common, ret == -ENOENT ? EXIT_FAILED : status_of(ret), "%s", flm_error());
	return model;
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
		fail(common, EXIT_FAILED, "%s: %s", path, strerror(errno));
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
		fail(common, EXIT_FAILED, "%s: %s", path, strerror(errno));
	if (file != stdin)
		fclose(file);
	text[used] = 0;
	*bytes = used;
	return text;
}
