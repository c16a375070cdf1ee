#include "fail.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local char message[FG_MESSAGE_BYTES];

const char *fg_message(void) { return message; }

fg_status fg_fail(fg_status status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  return status;
}

const char *fg_status_name(fg_status status) {
  switch (status) {
#define NAME(status)                                                                                                             \
  case status:                                                                                                                   \
    return #status
    NAME(FG_OK);
    NAME(FG_NULL_POINTER);
    NAME(FG_BAD_SIZE);
    NAME(FG_BAD_ENUM);
    NAME(FG_BAD_STRIDE);
    NAME(FG_MISALIGNED);
    NAME(FG_OVERLAP);
    NAME(FG_BAD_SCALE);
    NAME(FG_BAD_GROUPS);
    NAME(FG_BAD_VALUE);
    NAME(FG_UNSUPPORTED);
    NAME(FG_OUT_OF_MEMORY);
    NAME(FG_DRIVER_ERROR);
    NAME(FG_COMPILE_ERROR);
    NAME(FG_NOT_PREPARED);
    NAME(FG_BAD_MEMORY);
    NAME(FG_BAD_PLAN);
#undef NAME
  }
  return "unknown status";
}

#define TEXT_OF(x) #x
#define VERSION_TEXT(major, minor, patch) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)

const char *fg_version(void) { return VERSION_TEXT(FG_VERSION_MAJOR, FG_VERSION_MINOR, FG_VERSION_PATCH); }
