/* FG_LOG in the environment names a file to which every context appends: a line for each call's plan, and one for each kernel that
 * it loads. Whatever fails with it, nothing else does. */
#ifndef FG_LOG_H
#define FG_LOG_H

#include "plan.h"

int fg_log_open(void); /* -1: there is no log */
void fg_log_close(int log);

/* Why the user's own tuned plans are not looked at. */
void fg_log_ignored(int log, const char *why);

void fg_log_plan(int log, const fg_problem *full, const fg_plan *plan);
void fg_log_kernel(int log, const char *arch, const struct fg_kernel_id *id, int64_t took_us);

int64_t fg_log_clock_us(void);

#endif
