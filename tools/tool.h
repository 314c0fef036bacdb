/* SPDX-License-Identifier: MIT */
/*
 * Shared by the sub-commands of flightllm: options, errors and exit status, a progress bar, JSON on
 * stdout. A sub-command is one file with one function, which gets its arguments and returns the
 * status. One thread.
 */
#ifndef TOOLS_TOOL_H
#define TOOLS_TOOL_H

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

#include <flightllm/names.h>

#include "lib/flightllm.h"

struct command {
	const char *name;
	const char *summary;		/* one line for `flightllm --help` */
	const char *help;		/* all of `flightllm NAME --help` */
	int (*run)(int argc, char **argv);
};

extern const struct command bench_command, dis_command, info_command, list_command,
	perplexity_command, run_command;

/* Options that several commands have; values of long options without a letter start here. */
enum { OPT_JSON = 256, OPT_EMULATE, OPT_OWN = 300 };

#define BASE_OPTIONS \
	{ "help", no_argument, NULL, 'h' }, \
	{ "version", no_argument, NULL, 'V' }, \
	{ "json", no_argument, NULL, OPT_JSON }

/* Of the commands that use a card. */
#define CARD_OPTIONS \
	BASE_OPTIONS, \
	{ "device", required_argument, NULL, 'd' }, \
	{ "emulate", optional_argument, NULL, OPT_EMULATE }

struct common {
	const struct command *command;	/* NULL: none was named */
	const char *device;		/* as flm_device_open() takes it */
	const char *profile;		/* of the card to emulate, NULL: the model's */
	bool emulate;
	bool json;
	bool quiet;			/* no bar */
};

/*
 * The next option as getopt_long() gives it, -1 after the last. An unknown option, or one without
 * its value, exits with EXIT_USAGE. letters: the command's short options, without -h and -V.
 */
int next_option(const struct common *common, int argc, char **argv, const char *letters,
		const struct option *options);

/* Takes one of the options above: prints help or version and exits, or keeps its value. */
void common_option(struct common *common, int option);

/*
 * Flushes stdout, and exits with EXIT_FAILED unless all text has arrived. A command that streams
 * may call it after each word.
 */
void check_stdout(const struct common *common);

/* flm_model_probe(), or exit. notes may be NULL. */
void probe_model(const struct common *common, const char *path, struct flm_model_info *info,
		 char **notes);

/* Opens the chosen device, or exits. A model (unless NULL) names the profile to emulate. */
struct flm_device *open_device(const struct common *common, const char *model_path);

/* One line "flightllm NAME: ..." on stderr, and exit. */
__attribute__((noreturn, format(printf, 3, 4)))
void fail(const struct common *common, int status, const char *format, ...);

/* The same, with flm_error() and the status of this -errno. */
__attribute__((noreturn)) void fail_flm(const struct common *common, int error);

/* Numbers from the command line; anything else is EXIT_USAGE and names the option. */
uint64_t parse_count(const struct common *common, const char *option, const char *text,
		     uint64_t least, uint64_t most);
double parse_real(const struct common *common, const char *option, const char *text, double least,
		  double most);

/* A bar on stderr when it is a terminal; what: "loading". Called by the library. */
struct progress {
	const char *what;
	const char *unit;		/* of done and all; NULL: bytes, shown as MB */
	bool is_off;
	int last;			/* per mille drawn */
};
void progress_draw(void *opaque, uint64_t done, uint64_t all);
void progress_end(void);

double now_seconds(void);

/* Loads a model with its bar; exits on failure. */
struct flm_model *load_model(const struct common *common, struct flm_device *device,
			     const char *path, bool needs_tokenizer);

/* Prints a JSON object with "schema": "flightllm/1" in front, frees it. */
void print_json(json_t *object);

/* PCI facts of a card: two indented lines on stdout, or an object. */
void print_pci(const struct flm_pci_info *row);
json_t *pci_json(const struct flm_pci_info *row);

/* Text of a file as a JSON string; bytes beyond ASCII become '?' where it is no UTF-8. */
json_t *json_text(const char *text);

/* Ids that a text may become, at most: a byte that is no UTF-8 counts as a character of three. */
#define ID_ROOM(bytes) (3 * (size_t)(bytes) + 8)

/* The whole of a file, or of stdin for "-", zero-terminated; exits on failure. */
char *read_text(const struct common *common, const char *path, size_t *bytes);

#endif
