/* Shared libraries that are opened at run time, and the functions in them. */
#ifndef FG_LIBRARY_H
#define FG_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>

/* A function, and where in a struct of pointers to functions its address goes. */
struct fg_symbol {
  const char *name;
  size_t offset;
  bool is_needed;
};

/* The text of what a macro stands for: cuda.h gives many functions a name with a version. */
#define FG_TEXT_OF(name) #name
#define FG_EXPANDED_TEXT(name) FG_TEXT_OF(name)

/* What the environment has for it; NULL also in a program with other rights than its user (setuid and the like), which does not do
 * what that user's environment says. */
const char *fg_environment(const char *variable);

/* Opens the library that the environment variable names, or if it is unset or empty the first of `names` (up to a NULL) that can be
 * opened. It is never closed by itself: drivers do not like it. *name, which lives as long as the environment: what was tried last.
 * NULL: it cannot be opened, and `why` [why_bytes] holds the loader's words. */
void *fg_library_open(const char *variable, const char *const *names, const char **name, char *why, size_t why_bytes);

/* FG_DEVICE in the environment: unset or empty for a GPU; "emulator", then *names are the emulator's, which plays both the driver and
 * NVRTC. false: it is something else, and fg_fail() was called with FG_UNSUPPORTED. */
bool fg_library_choose(const char *const **names, bool *is_emulator);

/* Whether this library, opened, is the emulator, however it was chosen. */
bool fg_library_is_emulator(void *library);

/* Fills the struct `functions`, NULL for what the library lacks. The name of the first needed function that it lacks; NULL: none. */
const char *fg_library_resolve(void *library, const struct fg_symbol *symbols, int count, void *functions);

#endif
