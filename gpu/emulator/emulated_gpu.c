/* What the stand-in driver runs kernels with. Its environment is read at each launch. */
#include "driver_parts.h"
#include "emulator.h"
#include "library.h"
#include "load_image.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_REGISTERS = 255, REGISTERS = 65536, SMS = 132, MOST_SMS = 1024 };

/* What tells this driver from a real one. */
__attribute__((visibility("default"))) extern const int fg_is_emulator;
const int fg_is_emulator = 1;

/* The variable's number, `otherwise` if it is unset or empty. false: it is no number, or beyond `most`. */
static bool number_of(const char *variable, uint64_t otherwise, uint64_t most, uint64_t *number) {
  const char *text = fg_environment(variable);
  char *rest;
  *number = otherwise;
  if (!text || !*text) return true;
  errno = 0;
  unsigned long long read = strtoull(text, &rest, 10);
  *number = read;
  return !errno && !*rest && *text >= '0' && *text <= '9' && read <= most;
}

static int multiprocessors(void) {
  uint64_t sms;
  return number_of("FG_EMULATOR_SMS", SMS, MOST_SMS, &sms) && sms > 0 ? (int)sms : SMS;
}

/* As many registers as a compiler would give to a thread, so that all that are promised fit. */
static int registers_of(const struct emu_kernel *kernel, int threads) {
  int warps = (threads + EMU_WARP - 1) / EMU_WARP, blocks = kernel->blocks ? (int)kernel->blocks : 1;
  int registers = REGISTERS / (warps * EMU_WARP * blocks) / 8 * 8;
  return registers > MOST_REGISTERS ? MOST_REGISTERS : registers;
}

static bool load(CUlibrary library, const void *code, char *why, size_t why_bytes) {
  struct emu_image *image = emu_image_load(code, why, why_bytes);
  if (!image) return false;
  library->image = image, library->sm = 90;
  for (const struct emu_kernel *emulated = image->kernels; emulated->name; emulated++) {
    struct CUkern_st *kernel = driver_add_kernel(library, emulated->name);
    if (!kernel) {
      snprintf(why, why_bytes, "the image has more than %d kernels", MOST_KERNELS);
      return false;
    }
    kernel->emulated = emulated;
    if (emulated->threads) kernel->most_threads = (int)emulated->threads;
    kernel->registers = registers_of(emulated, kernel->most_threads);
    kernel->parameters = 1, kernel->bytes[0] = emulated->argument_bytes;
  }
  return true;
}

static void unload(CUlibrary library) { emu_image_unload(library->image); }

static bool read_environment(struct emu_launch *launch, char *message) {
  uint64_t threads;
  const char *wrong = NULL;
  if (!number_of("FG_EMULATOR_SEED", 0, UINT64_MAX, &launch->seed)) wrong = "FG_EMULATOR_SEED";
  if (!number_of("FG_EMULATOR_THREADS", (uint64_t)sysconf(_SC_NPROCESSORS_ONLN), 1 << 10, &threads))
    wrong = "FG_EMULATOR_THREADS";
  launch->host_threads = threads ? (int)threads : 1;
  const char *path = fg_environment("FG_EMULATOR_TRACE");
  if (wrong) {
    snprintf(message, EMU_MESSAGE_BYTES, "%s is %s; it must be a number", wrong, fg_environment(wrong));
  } else if (path && *path && !(launch->timeline = emu_timeline_open(path, launch))) {
    wrong = "FG_EMULATOR_TRACE";
    snprintf(message, EMU_MESSAGE_BYTES, "%s is %s, which cannot be written: %s", wrong, path, strerror(errno));
  }
  return !wrong;
}

static bool run(const struct stub_launch *about, const struct CUkern_st *kernel, char *message) {
  unsigned clusters = about->cluster[0] ? about->cluster[0] * about->cluster[1] * about->cluster[2] : 1;
  struct emu_launch launch = {.image = kernel->library->image,
                              .kernel = kernel->name,
                              .entry = kernel->emulated->entry,
                              .arguments = about->arguments,
                              .argument_bytes = about->argument_bytes,
                              .grid = {about->grid[0], about->grid[1], about->grid[2]},
                              .block_size = {about->block[0], about->block[1], about->block[2]},
                              .cluster_size = clusters,
                              .shared_bytes = about->shared_bytes,
                              .registers = (unsigned)kernel->registers};
  if (about->cluster[0] && about->cluster[0] != clusters) {
    snprintf(message, EMU_MESSAGE_BYTES,
             "kernel %s is launched with clusters of %u x %u x %u blocks; the emulator has clusters in a row, along x",
             kernel->name, about->cluster[0], about->cluster[1], about->cluster[2]);
    return false;
  }
  if (!read_environment(&launch, message)) return false;
  bool ran = emu_run(&launch, message);
  if (launch.timeline && !emu_timeline_close(launch.timeline) && ran) {
    snprintf(message, EMU_MESSAGE_BYTES, "FG_EMULATOR_TRACE is %s, which could not be written",
             fg_environment("FG_EMULATOR_TRACE"));
    return false;
  }
  return ran;
}

const struct emu_runner emu_runner = {.device = "emulator",
                                      .multiprocessors = multiprocessors,
                                      .load = load,
                                      .unload = unload,
                                      .memory_changed = emu_memory_changed,
                                      .run = run};
