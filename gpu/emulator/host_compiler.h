/* This machine's C++ compiler, which makes the emulator's images. */
#ifndef FG_HOST_COMPILER_H
#define FG_HOST_COMPILER_H

#include <stdbool.h>
#include <stddef.h>

/* Which was run, and how it ended. */
struct emu_compiler_run {
  const char *name; /* of it or, where there was none to start, what CXX names; NULL: CXX names nothing */
  bool started;
  int status; /* of waitpid() */
};

/* Runs it in the folder, with these arguments up to a NULL: what CXX in the environment names, words between blanks, else the first that
 * there is of c++, g++ and clang++. What it says lands in folder/words. true: it ended with exit status 0. */
bool emu_run_compiler(const char *folder, const char *const *arguments, struct emu_compiler_run *run);

/* What it calls itself, "g++ (Debian 12.2.0-14) 12.2.0": goes to free(). NULL: there is none, or no memory. */
char *emu_compiler_name(void);

/* Its words, in NVRTC's form: "lessons/05_shared.cu(25): error: ..."; goes to free(). If the run failed, and no error is
 * among them, the last say how it ended; NULL: it did not fail. */
char *emu_compiler_words(const char *folder, const struct emu_compiler_run *run);

#endif
