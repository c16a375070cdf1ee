/* Shared libraries that lack a function. */
#ifndef LIBRARY_COPY_H
#define LIBRARY_COPY_H

/* A copy of the library in which the function's name stands no more, in the folder for temporary files: whoever asked removes it.
 * NULL: it cannot be made, or has no such function. The path is static. */
const char *copy_without(const char *library, const char *function);

#endif
