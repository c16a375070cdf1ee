#include "read_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool fg_read_whole(int file, void *to, size_t bytes, int if_short) {
  for (size_t have = 0; have < bytes;) {
    ssize_t got = read(file, (char *)to + have, bytes - have);
    if (got == 0) errno = if_short;
    if (got == 0 || (got < 0 && errno != EINTR)) return false;
    if (got > 0) have += (size_t)got;
  }
  return true;
}

const char *fg_error_text(int error, char *text, size_t bytes) {
  if (strerror_r(error, text, bytes) != 0) snprintf(text, bytes, "error %d", error);
  return text;
}
