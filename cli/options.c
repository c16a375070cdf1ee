#include "cli.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* popt leaves its strings to the caller. */
static void adopt_strings(const struct poptOption *options) {
  for (; options->longName; options++) {
    if (options->argInfo != POPT_ARG_STRING || !*(char **)options->arg) continue;
    char *string = *(char **)options->arg;
    *(char **)options->arg = text("%s", string);
    free(string);
  }
}

int parse(const struct command *command, int argc, const char **argv, struct poptOption *options, int least, int most,
          const char **arguments) {
  struct poptOption help[] = {{"help", 'h', POPT_ARG_NONE, NULL, 'h', "show this help", NULL}, OPTIONS_END};
  struct poptOption all[] = {{NULL, '\0', POPT_ARG_INCLUDE_TABLE, options, 0, NULL, NULL},
                             {NULL, '\0', POPT_ARG_INCLUDE_TABLE, help, 0, NULL, NULL},
                             OPTIONS_END};
  const char **own = claim(argc + 1, sizeof *own, "the arguments");
  memcpy(own, argv, (size_t)argc * sizeof *own);
  own[0] = text("finegemm %s", command->name);
  own[argc] = NULL;
  static poptContext popt; /* what the options point to lives as long as this */
  popt = poptGetContext(NULL, argc, own, all, 0);
  poptSetOtherOptionHelp(
      popt, text("%s\n\n%s.%s%s\n", command->arguments, command->summary, *command->about ? "\n" : "", command->about));
  for (int code; (code = poptGetNextOpt(popt)) != -1;) {
    if (code == 'h') {
      poptPrintHelp(popt, stdout, 0);
      leave(DONE);
    }
    const char *option = poptBadOption(popt, POPT_BADOPTION_NOALIAS);
    if (code == POPT_ERROR_BADOPT) fail(BAD_USAGE, "%s: there is no such option; --help lists them", option);
    fail(BAD_USAGE, "%s: %s", option, poptStrerror(code));
  }
  adopt_strings(options);
  int count = 0;
  for (const char *argument; (argument = poptGetArg(popt)) != NULL; count++) {
    if (count == most) fail(BAD_USAGE, "'%s' is one argument too many; usage: %s %s", argument, own[0], command->arguments);
    arguments[count] = argument;
  }
  if (count < least) fail(BAD_USAGE, "an argument is missing; usage: %s %s", own[0], command->arguments);
  return count;
}

struct choice {
  const char *name;
  int value;
};

static int choose(const char *option, const char *name, const struct choice *choices, int count) {
  char list[400] = "";
  for (int i = 0; i < count; i++) {
    if (strcmp(name, choices[i].name) == 0) return choices[i].value;
    const char *joint = i == 0 ? "" : i == count - 1 ? " or " : ", ";
    size_t used = strlen(list);
    snprintf(list + used, sizeof list - used, "%s%s", joint, choices[i].name);
  }
  fail(BAD_USAGE, "%s is '%s'; it must be %s", option, name, list);
}

fg_level level_option(const char *option, const char *name) {
  struct choice choices[32] = {{"best", FG_BEST}};
  int levels, count = 1;
  const fg_level_info *info = fg_levels(&levels);
  for (int i = 0; i < levels && count < 32; i++) choices[count++] = (struct choice){info[i].name, (int)info[i].level};
  return name ? (fg_level)choose(option, name, choices, count) : FG_BEST;
}

fg_scaling scaling_option(const char *option, const char *name) {
  static const struct choice choices[] = {{"1x128", FG_1X128}, {"128x128", FG_128X128}, {"tensor", FG_TENSOR}};
  return name ? (fg_scaling)choose(option, name, choices, 3) : FG_DEFAULT_SCALING;
}

fg_type fp8_option(const char *option, const char *name) {
  static const struct choice choices[] = {{"e4m3", FG_E4M3}, {"e5m2", FG_E5M2}};
  return name ? (fg_type)choose(option, name, choices, 2) : FG_DEFAULT_TYPE;
}

fg_type out_type_option(const char *option, const char *name) {
  static const struct choice choices[] = {{"bf16", FG_BF16}, {"f16", FG_FP16}, {"f32", FG_FP32}};
  return name ? (fg_type)choose(option, name, choices, 3) : FG_DEFAULT_TYPE;
}

static const char *const kinds[] = {"dense", "batched", "grouped-rows", "masked", "grouped-k"};

fg_kind kind_option(const char *option, const char *name) {
  struct choice choices[5];
  for (int i = 0; i < 5; i++) choices[i] = (struct choice){kinds[i], i};
  return name ? (fg_kind)choose(option, name, choices, 5) : FG_DENSE;
}

const char *kind_name(fg_kind kind) { return kinds[kind]; }

const fg_level_info *level_info(fg_level level) {
  int levels;
  const fg_level_info *info = fg_levels(&levels);
  for (int i = 0; i < levels; i++)
    if (info[i].level == level) return &info[i];
  return NULL;
}

const char *level_name(fg_level level) { return level == FG_BEST ? "best" : level_info(level)->name; }

const char *level_idea(fg_level level) { return level_info(level)->idea; }

const char *scaling_name(fg_scaling scaling) {
  static const char *const names[] = {"default", "1x128", "128x128", "tensor"};
  return names[scaling];
}

const char *type_name(fg_type type) {
  static const char *const names[] = {"default", "F8_E4M3", "F8_E5M2", "BF16", "F16", "F32"};
  return names[type];
}

int64_t type_bytes(fg_type type) { return type == FG_FP32 ? 4 : type == FG_BF16 || type == FG_FP16 ? 2 : 1; }

/* `rule` is what the message adds. */
static int64_t number_by_rule(const char *option, const char *number, int64_t least, int64_t most, const char *rule) {
  if (!number) return least;
  char *end;
  errno = 0;
  long long value = strtoll(number, &end, 10);
  if (errno || end == number || *end || value < least || value > most)
    fail(BAD_USAGE, "%s is '%s'; it must be %s", option, number, rule);
  return value;
}

int64_t number_option(const char *option, const char *number, int64_t least, int64_t most) {
  return number_by_rule(option, number, least, most, text("from %" PRId64 " to %" PRId64, least, most));
}

int threads_option(const char *count) {
  enum { MOST_THREADS = 4096 };
  return (int)number_by_rule("--threads", count, 0, MOST_THREADS, text("from 1 to %d, or 0 for all", MOST_THREADS));
}

int split_k_option(const char *count) { return (int)number_option("--split-k", count, 1, INT_MAX); }

fg_context *make_context(int threads) {
  static fg_context *context;
  require(fg_context_create(&context, &(fg_context_options){.threads = threads}), "");
  return context;
}
