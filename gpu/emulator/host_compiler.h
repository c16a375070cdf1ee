/* This machine's C++ compiler, which makes the emulator's images. */
#ifndef FG_HOST_COMPILER_H
#define FG_HOST_COMPILER_H

#include <stdbool.h>
#include <stddef.h>

/* Runs it in the folder, with these arguments up to a NULL: what CXX in the environment names, words between blanks, else the first that
 * there is of c++, g++ and clang++. What it says lands in folder/words. true: it did what it was asked for; false with *ran false: there
 * is none. */
bool emu_run_compiler(const char *folder, const char *const *arguments, bool *ran);

/* What it calls itself, "g++ (Debian 12.2.0-14) 12.2.0": goes to free(). NULL: there is none, or no memory. */
char *emu_compiler_name(void);

/* Its words, in NVRTC's form: "lessons/05_shared.cu(25): error: ..."; goes to free(). */
char *emu_compiler_words(const char *folder);

#endif
