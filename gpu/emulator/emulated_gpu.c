/* What the stand-in driver runs kernels with. Its environment is looked at when it starts, so that nothing has begun yet, and read at each launch. */
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

enum { MOST_REGISTERS = 255, REGISTERS = 65536, SMS = 132, MOST_SMS = 1024, MOST_HOST_THREADS = 1024 };

/* What tells this driver from a real one. */
__attribute__((visibility("default"))) extern const int fg_is_emulator;
const int fg_is_emulator = 1;

/* What is to be read of the environment, but for the trace's name. */
struct settings {
  uint64_t seed, threads, sms, traced_blocks; /* traced_blocks 0: the first cluster's */
};

/* The variable's number, left as it is where the variable is unset or empty. false: `message` says what it must be. */
static bool read_number(const char *variable, uint64_t least, uint64_t most, uint64_t *number, char *message) {
  const char *text = fg_environment(variable);
  char *rest;
  if (!text || !*text) return true;
  errno = 0;
  unsigned long long read = strtoull(text, &rest, 10);
  if (errno || *rest || *text < '0' || *text > '9' || read < least || read > most) {
    snprintf(message, EMU_MESSAGE_BYTES, "%s is %.200s; it must be a number from %" PRIu64 " to %" PRIu64, variable, text, least,
             most);
    return false;
  }
  *number = read;
  return true;
}

static bool read_settings(struct settings *settings, char *message) {
  long processors = sysconf(_SC_NPROCESSORS_ONLN);
  *settings = (struct settings){.threads = processors > 0 ? (uint64_t)processors : 1, .sms = SMS};
  return read_number("FG_EMULATOR_SEED", 0, UINT64_MAX, &settings->seed, message) &&
         read_number("FG_EMULATOR_THREADS", 1, MOST_HOST_THREADS, &settings->threads, message) &&
         read_number("FG_EMULATOR_SMS", 1, MOST_SMS, &settings->sms, message) &&
         read_number("FG_EMULATOR_TRACE_BLOCKS", 1, INT32_MAX, &settings->traced_blocks, message);
}

static bool start(int *sms, char *message) {
  struct settings settings;
  if (!read_settings(&settings, message)) return false;
  *sms = (int)settings.sms;
  return true;
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
  struct settings settings;
  if (!read_settings(&settings, message)) return false;
  launch->seed = settings.seed;
  launch->host_threads = (int)settings.threads;
  const char *path = fg_environment("FG_EMULATOR_TRACE");
  if (!path || !*path) return true;
  launch->timeline = emu_timeline_open(path, launch, (unsigned)settings.traced_blocks);
  if (!launch->timeline)
    snprintf(message, EMU_MESSAGE_BYTES, "FG_EMULATOR_TRACE is %s, which cannot be written: %s", path, strerror(errno));
  return launch->timeline != NULL;
}

static CUresult run(const struct stub_launch *about, const struct CUkern_st *kernel, char *message) {
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
    return CUDA_ERROR_INVALID_CLUSTER_SIZE;
  }
  if (!read_environment(&launch, message)) return CUDA_ERROR_INVALID_VALUE;
  bool ran = emu_run(&launch, message);
  if (launch.timeline && !emu_timeline_close(launch.timeline) && ran) {
    snprintf(message, EMU_MESSAGE_BYTES, "FG_EMULATOR_TRACE is %s, which could not be written",
             fg_environment("FG_EMULATOR_TRACE"));
    return CUDA_ERROR_INVALID_VALUE;
  }
  return ran ? CUDA_SUCCESS : CUDA_ERROR_LAUNCH_FAILED;
}

const struct emu_runner emu_runner = {
    .device = "emulator", .start = start, .load = load, .unload = unload, .memory_changed = emu_memory_changed, .run = run};
