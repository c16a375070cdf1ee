#include "driver_parts.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of the calling thread's last call, on the heap: a library that is opened late has little room for what is each thread's. */
struct said {
  CUresult error; /* CUDA_SUCCESS: nothing was said */
  char words[SAID_BYTES];
};
static pthread_key_t said_key;
static pthread_once_t said_once = PTHREAD_ONCE_INIT;
static void make_said_key(void) { pthread_key_create(&said_key, free); }

static struct said *said(bool make) {
  pthread_once(&said_once, make_said_key);
  struct said *here = pthread_getspecific(said_key);
  if (here || !make) return here;
  here = calloc(1, sizeof *here);
  if (here) pthread_setspecific(said_key, here);
  return here;
}

CUresult driver_say(CUresult error, const char *format, ...) {
  char words[SAID_BYTES];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(words, sizeof words, format, arguments);
  va_end(arguments);
  struct said *here = said(true);
  if (here) {
    here->error = error;
    memcpy(here->words, words, sizeof words);
  }
  return error;
}

const char *driver_said(CUresult error) {
  const struct said *here = said(false);
  return here && error != CUDA_SUCCESS && here->error == error ? here->words : NULL;
}

void driver_forget_words(void) {
  struct said *here = said(false);
  if (here) here->error = CUDA_SUCCESS;
}
