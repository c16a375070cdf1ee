#define _GNU_SOURCE /* secure_getenv() */
#include "library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *fg_environment(const char *variable) { return secure_getenv(variable); }

bool fg_library_is_emulator(void *library) { return dlsym(library, "fg_is_emulator") != NULL; }

void *fg_library_open(const char *variable, const char *const *names, const char **name, char *why, size_t why_bytes) {
  const char *chosen = fg_environment(variable);
  const char *const only[] = {chosen, NULL};
  for (names = chosen && *chosen ? only : names; *names; names++) {
    *name = *names;
    void *library = dlopen(*names, RTLD_NOW | RTLD_LOCAL);
    if (library) return library;
    const char *words = dlerror();
    snprintf(why, why_bytes, "%s", words ? words : "for no given reason");
  }
  return NULL;
}

const char *fg_library_resolve(void *library, const struct fg_symbol *symbols, int count, void *functions) {
  const char *missing = NULL;
  for (int i = 0; i < count; i++) {
    void *address = dlsym(library, symbols[i].name);
    memcpy((char *)functions + symbols[i].offset, &address,
           sizeof address); /* ISO C has no cast to a function: POSIX wants a copy */
    if (!address && symbols[i].is_needed && !missing) missing = symbols[i].name;
  }
  return missing;
}
