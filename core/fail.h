/* How everything above ref/ says what went wrong. */
#ifndef FG_FAIL_H
#define FG_FAIL_H

#include "finegemm.h"

enum { FG_MESSAGE_BYTES = 2048 }; /* of a sentence, and its end: the emulator's, which list who waits for what, are the longest */

/* Puts the sentence where fg_message() finds it, for this thread, and returns status. */
fg_status fg_fail(fg_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
