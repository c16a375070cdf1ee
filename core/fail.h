/* How everything above ref/ says what went wrong. */
#ifndef FG_FAIL_H
#define FG_FAIL_H

#include "finegemm.h"

/* Puts the sentence where fg_message() finds it, for this thread, and returns status. */
fg_status fg_fail(fg_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
