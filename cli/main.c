/* finegemm, the program: finds the command and runs it. */
#include "cli.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static const struct command *const commands[] = {&command_levels,  &command_doctor,  &command_quantize,   &command_gemm,
                                                 &command_compare, &command_explain, &command_inspect,    &command_demo,
                                                 &command_lesson,  &command_plan,    &command_precompile, &command_cache,
                                                 &command_emulate, &command_tune};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void print_help(void) {
  printf("Usage: finegemm COMMAND [OPTION...]\n\n"
         "Multiplies FP8 matrices with fine-grained scales: D = C + A B^T.\n\n");
  for (int i = 0; i < COMMANDS; i++) printf("  %-12s%s\n", commands[i]->name, commands[i]->summary);
  printf(
      "\n'finegemm help COMMAND' tells about one; 'finegemm --version' says which this is.\n\n"
      "Files are .npy (float32, float16) and .safetensors (F32, F16, BF16, F8_E4M3, F8_E5M2), a tensor FILE.safetensors:NAME.\n\n"
      "Exit codes: 0 done; 1 results differ, or something does not work; 2 bad usage; 3 an input cannot be read or used;\n"
      "4 an output cannot be written; 5 the library refused, with its status in the message.\n");
}

static const struct command *find_command(const char *name) {
  for (int i = 0; i < COMMANDS; i++)
    if (strcmp(commands[i]->name, name) == 0) return commands[i];
  fail(BAD_USAGE, "there is no command '%s'; 'finegemm --help' lists them", name);
}

static enum outcome run(const char *name, int argc, const char **argv) {
  const struct command *command = find_command(name);
  set_program(text("finegemm %s", name));
  return command->run(command, argc, argv);
}

/* No half file stays; then the signal does what it always does, so that a shell sees it. */
static void clean_up(int signal_number) {
  tensor_file_cleanup();
  raise(signal_number);
}

static void catch_signals(void) {
  static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
  for (int i = 0; i < 3; i++) {
    struct sigaction old, action = {.sa_handler = clean_up, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) sigaction(signals[i], &action, NULL);
  }
  signal(SIGXFSZ, SIG_IGN); /* a file that grows too large is an error of write() like any other */
}

int main(int argc, char **argv) {
  catch_signals();
  const char **arguments = (const char **)(uintptr_t)argv;
  const char *first = argc > 1 ? argv[1] : NULL;
  enum outcome outcome = DONE;
  if (!first) {
    fail(BAD_USAGE, "a command is missing; 'finegemm --help' lists them");
  } else if (strcmp(first, "--version") == 0) {
    printf("finegemm %s\n", fg_version());
  } else if (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0 || (strcmp(first, "help") == 0 && argc == 2)) {
    print_help();
  } else if (strcmp(first, "help") == 0) {
    outcome = run(argv[2], 2, (const char *[]){argv[2], "--help", NULL});
  } else {
    outcome = run(first, argc - 1, arguments + 1);
  }
  leave(outcome);
}
