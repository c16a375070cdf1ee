/* What is the same whatever file is read. */
#ifndef FG_READ_FILE_H
#define FG_READ_FILE_H

#include <stdbool.h>
#include <stddef.h>

/* `to` [bytes] becomes what an open file holds from here on. false: errno says why, and is `if_short` where it holds less. */
bool fg_read_whole(int file, void *to, size_t bytes, int if_short);

/* The system's words for errno's value, in `text`. */
const char *fg_error_text(int error, char *text, size_t bytes);

#endif
