#include "kernel_list.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *skip_string(const char *at) {
  char quote = *at++;
  for (; *at && *at != quote; at++)
    if (*at == '\\' && at[1]) at++;
  return at + (*at != '\0');
}

/* Past blanks and comments. */
static const char *skip_blanks(const char *at) {
  for (;;) {
    if (isspace((unsigned char)*at)) {
      at++;
    } else if (at[0] == '/' && at[1] == '*') {
      const char *end = strstr(at + 2, "*/");
      at = end ? end + 2 : at + strlen(at);
    } else if (at[0] == '/' && at[1] == '/') {
      at += strcspn(at, "\n");
    } else {
      return at;
    }
  }
}

/* Past the next word, number, text or sign; *length is 0 where it is no word. */
static const char *skip_token(const char *at, size_t *length) {
  const char *begin = at;
  *length = 0;
  if (*at == '"' || *at == '\'') return skip_string(at);
  while (isalnum((unsigned char)*at) || *at == '_') at++;
  *length = (size_t)(at - begin);
  return *length ? at : at + (*at != '\0');
}

/* Past what stands in parentheses, from the first one on. */
static const char *skip_parentheses(const char *at) {
  int depth = 0;
  size_t length;
  do {
    at = skip_blanks(at);
    depth += (*at == '(') - (*at == ')');
    at = skip_token(at, &length);
  } while (depth > 0 && *at);
  return at;
}

static bool is_word(const char *at, size_t length, const char *word) {
  return length == strlen(word) && strncmp(at, word, length) == 0;
}

/* From behind __global__ to behind the kernel's name; prints `macro`(name, bounds). */
static const char *list_one(FILE *to, const char *macro, const char *at) {
  const char *bounds = "0, 0";
  int bounds_length = 4;
  while (*at) {
    const char *word = at = skip_blanks(at);
    size_t length;
    at = skip_token(at, &length);
    if (!length) return at; /* no declaration that we know */
    const char *next = skip_blanks(at);
    if (*next != '(') continue;
    at = skip_parentheses(next);
    if (!is_word(word, length, "__launch_bounds__")) {
      fprintf(to, "%s(%.*s, %.*s)\n", macro, (int)length, word, bounds_length, bounds);
      return at;
    }
    bounds = next + 1;
    bounds_length = (int)(at - next) - 2;
  }
  return at;
}

static void list_all(FILE *to, const char *macro, const char *source) {
  for (const char *at = skip_blanks(source); *at; at = skip_blanks(at)) {
    size_t length;
    const char *word = at;
    at = skip_token(at, &length);
    if (is_word(word, length, "__global__")) at = list_one(to, macro, at);
  }
}

char *emu_list_kernels(const char *source) {
  char *text = NULL;
  size_t bytes;
  FILE *to = open_memstream(&text, &bytes);
  if (!to) return NULL;
  fprintf(to, "%s\n#line 1 \"the list of kernels\"\n", source);
  list_all(to, "FG_KERNEL", source);
  fprintf(to, "FG_KERNELS_BEGIN\n");
  list_all(to, "FG_KERNEL_ENTRY", source);
  fprintf(to, "FG_KERNELS_END\n");
  if (fclose(to) == 0) return text;
  free(text);
  return NULL;
}
