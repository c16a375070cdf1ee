#include "fail.h"
#include "library.h"

#include <string.h>

bool fg_library_choose(const char *const **names, bool *is_emulator) {
  static const char *const emulator[] = {"libfinegemm_emulator.so.0", NULL};
  const char *chosen = fg_environment("FG_DEVICE");
  *is_emulator = chosen && strcmp(chosen, "emulator") == 0;
  if (*is_emulator) *names = emulator;
  if (*is_emulator || !chosen || !*chosen) return true;
  fg_fail(FG_UNSUPPORTED, "FG_DEVICE is %s; it must be emulator, or unset for a GPU", chosen);
  return false;
}
