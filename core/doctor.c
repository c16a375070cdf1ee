#include "cache.h"
#include "core.h"
#include "cpu.h"
#include "probe.h"
#include "tuned.h"

#include <cblas.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static fg_finding cpu_finding(struct fg_probe *probe) {
  (void)probe;
  fg_finding finding = {.name = "cpu", .works = 1};
  char name[FG_CPU_NAME_BYTES];
  fg_cpu_name(name);
  snprintf(finding.found, sizeof finding.found, "%s, %d threads, %s", name, fg_cpu_threads(), fg_isa_name(fg_isa()));
  if (fg_isa() == FG_ISA_PLAIN)
    snprintf(finding.advice, sizeof finding.advice, "same bits, but slow: a processor with AVX2 or AVX-512, or unset FG_ISA");
  return finding;
}

static fg_finding blas_finding(struct fg_probe *probe) {
  (void)probe;
  static const char *const flavours[] = {"sequential", "with threads of its own", "with OpenMP"};
  fg_finding finding = {.name = "blas", .works = 1};
  int flavour = openblas_get_parallel();
  snprintf(finding.found, sizeof finding.found, "%s, %s, core %s", openblas_get_config(),
           flavour >= 0 && flavour <= OPENBLAS_OPENMP ? flavours[flavour] : "?", openblas_get_corename());
  bool kernels_of_old = strcmp(openblas_get_corename(), "Prescott") == 0;
  if (kernels_of_old && fg_isa() != FG_ISA_PLAIN) /* seen on Sapphire Rapids: a sixth of the speed */
    snprintf(finding.advice, sizeof finding.advice,
             "OpenBLAS does not know this CPU and uses its slowest kernels: a newer OpenBLAS, or OPENBLAS_CORETYPE=%s",
             fg_isa() == FG_ISA_AVX512 ? "SkylakeX" : "Haswell");
  else if (flavour != OPENBLAS_OPENMP)
    snprintf(finding.advice, sizeof finding.advice, "install the OpenMP flavour of OpenBLAS (Debian: libopenblas0-openmp)%s",
             flavour == 1 ? ": its own threads get in the way of ours" : "");
  return finding;
}

/* The rest looks at CUDA, once for all of them. */
static const struct fg_probe *cuda(struct fg_probe *probe) {
  if (!probe->driver_text[0]) fg_probe_cuda(probe);
  return probe;
}

static fg_finding finding_of(const char *name, int works, const char *found, const char *advice) {
  fg_finding finding = {.name = name, .works = works};
  snprintf(finding.found, sizeof finding.found, "%s", found);
  if (!works)
    snprintf(finding.advice, sizeof finding.advice, "%s",
             FG_WITH_CUDA ? advice : "for GPU levels: build finegemm where the CUDA toolkit's headers are; CPU levels need none");
  return finding;
}

static fg_finding driver_finding(struct fg_probe *probe) {
  return finding_of("driver", cuda(probe)->driver != 0, probe->driver_text,
                    "for GPU levels: install NVIDIA's driver; CPU levels need none");
}

static fg_finding gpu_finding(struct fg_probe *probe) {
  fg_finding finding = finding_of("gpu", cuda(probe)->gpus > 0, probe->gpu_text,
                                  "for GPU levels: a machine with a CUDA GPU; 'finegemm precompile' and 'plan' need none");
  if (finding.works && !probe->hopper_gpus)
    snprintf(finding.advice, sizeof finding.advice,
             "levels naive and shared run on it; those from wgmma upward need a Hopper GPU");
  return finding;
}

static fg_finding nvrtc_finding(struct fg_probe *probe) {
  return finding_of("nvrtc", cuda(probe)->nvrtc != 0, probe->nvrtc_text,
                    "for GPU levels: install libnvrtc (pip: nvidia-cuda-nvrtc), or ship kernels compiled elsewhere");
}

/* --- The cache */

/* "path (FG_CACHE_DIR)"; of a long path the end, which is what differs. */
static int write_place(const struct fg_cache_place *place, fg_finding *finding) {
  enum { SHOWN = 100 };
  size_t length = strlen(place->path), skipped = length > SHOWN ? length - SHOWN : 0;
  return snprintf(finding->found, sizeof finding->found, "%s%.*s (%s)", skipped ? "..." : "", SHOWN, place->path + skipped,
                  place->named_by);
}

/* What is in the user's cache, in words; false: it cannot be read. */
static bool count_kernels(const struct fg_cache_place *place, fg_finding *finding) {
  struct fg_cache_entry *entries;
  char why[FG_CACHE_WHY_BYTES];
  int files = fg_cache_list(NULL, &entries, why), valid = 0;
  int64_t bytes = 0;
  for (int i = 0; i < files; i++) {
    valid += entries[i].is_valid;
    bytes += entries[i].bytes;
  }
  fg_cache_list_free(entries, files);
  if (files < 0) {
    snprintf(finding->found, sizeof finding->found, "%.190s", why);
    return false;
  }
  size_t used = (size_t)write_place(place, finding);
  snprintf(finding->found + used, sizeof finding->found - used, ": %d kernel%s, %" PRId64 " of at most %" PRId64 " bytes", files,
           files == 1 ? "" : "s", bytes, fg_cache_bound_bytes());
  if (valid < files)
    snprintf(finding->advice, sizeof finding->advice,
             "%d of its files would not be loaded, and their kernels are compiled anew: 'finegemm cache verify' says why",
             files - valid);
  return true;
}

/* What FG_CACHE_PATH names in vain is worth a word, as nothing else tells. */
static void look_at_path(fg_finding *finding) {
  struct fg_cache_place place;
  for (int index = 1; !finding->advice[0] && fg_cache_place(index, &place); index++)
    if (place.state != FG_CACHE_READY) snprintf(finding->advice, sizeof finding->advice, "FG_CACHE_PATH: %.150s", place.why);
}

static fg_finding cache_finding(struct fg_probe *probe) {
  (void)probe;
  static const char advice[] = "kernels are compiled anew in every process: name a directory of your own in FG_CACHE_DIR";
  fg_finding finding = {.name = "cache"};
  struct fg_cache_place place;
  fg_cache_place(0, &place);
  if (place.state == FG_CACHE_READY) {
    finding.works = count_kernels(&place, &finding);
    if (finding.works && access(place.path, W_OK) != 0)
      snprintf(finding.advice, sizeof finding.advice, "it cannot be written: new kernels are compiled in every process");
  } else if (place.state == FG_CACHE_ABSENT) {
    finding.works = 1;
    size_t used = (size_t)write_place(&place, &finding);
    snprintf(finding.found + used, sizeof finding.found - used, ": made when the first kernel is kept");
  } else {
    snprintf(finding.found, sizeof finding.found, "%.190s", place.why);
  }
  if (!finding.works) snprintf(finding.advice, sizeof finding.advice, "%s", advice);
  look_at_path(&finding);
  return finding;
}

static fg_finding plans_finding(struct fg_probe *probe) {
  (void)probe;
  fg_finding finding = {.name = "plans"};
  struct fg_tuned *own;
  int shipped = fg_tuned_shipped()->count;
  finding.works = fg_tuned_load_own(&own) == FG_OK;
  if (finding.works && own)
    snprintf(finding.found, sizeof finding.found, "%d tuned by the user (FG_PLANS), %d in the library, else by its model",
             own->count, shipped);
  else if (finding.works)
    snprintf(finding.found, sizeof finding.found, "%d tuned ones in the library, else by its model", shipped);
  else
    snprintf(finding.found, sizeof finding.found, "%.199s", fg_message());
  if (!finding.works)
    snprintf(finding.advice, sizeof finding.advice,
             "none of the user's is used: name a table that 'finegemm tune' wrote in FG_PLANS, or unset it");
  fg_tuned_free(own);
  return finding;
}

/* What costs more to look at stands further down, and is left alone where nobody wants to know it. */
int fg_doctor(fg_finding *findings, int capacity) {
  static fg_finding (*const look[])(struct fg_probe * probe) = {cpu_finding,    blas_finding, cache_finding, plans_finding,
                                                                driver_finding, gpu_finding,  nvrtc_finding};
  enum { FINDINGS = sizeof look / sizeof look[0] };
  struct fg_probe probe = {0};
  for (int i = 0; i < FINDINGS && i < capacity && findings; i++) findings[i] = look[i](&probe);
  return FINDINGS;
}
