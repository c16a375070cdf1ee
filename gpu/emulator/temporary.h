/* Files for a moment, in a folder that nobody else can read. */
#ifndef FG_TEMPORARY_H
#define FG_TEMPORARY_H

#include <stdbool.h>
#include <stddef.h>

enum { EMU_PATH_BYTES = 1024 };

/* A new folder, in TMPDIR or where the system has such. false: there is none, and errno says why. */
bool emu_folder_make(char folder[EMU_PATH_BYTES]);
void emu_folder_remove(const char *folder); /* with all that is in it */

/* folder/name, where name may have folders of its own, which are made. false: errno says why. */
bool emu_file_write(const char *folder, const char *name, const void *bytes, size_t count);

/* All of folder/name, and a zero behind it; goes to free(). NULL: errno says why. */
char *emu_file_read(const char *folder, const char *name, size_t *count);

#endif
