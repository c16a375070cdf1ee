#include "driver_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
struct driver_state emu_driver;
_Thread_local struct driver_stack emu_driver_stack;

void driver_forget(struct thing *thing) {
  struct thing **at = &emu_driver.things;
  while (*at != thing) at = &(*at)->next;
  *at = thing->next;
  if (thing->kind == MEMORY) driver_free((struct memory *)thing);
  if (thing->kind == RESERVATION) driver_free_reservation((struct reservation *)thing);
  if (thing->kind == PHYSICAL) driver_free_physical((struct physical *)thing);
  if (thing->kind == LIBRARY && ((CUlibrary)thing)->image) emu_runner.unload((CUlibrary)thing);
  if (thing->kind == GRAPH) free(((CUgraph)thing)->launch);
  if (thing->kind == GRAPH_EXEC) free(((CUgraphExec)thing)->launch);
  if (thing->kind == STREAM && ((CUstream)thing)->graph) driver_forget(&((CUstream)thing)->graph->thing);
  free(thing);
}

void *driver_make(enum kind kind, size_t bytes, int device) {
  struct thing *thing = calloc(1, bytes);
  if (!thing) return NULL;
  *thing = (struct thing){kind, device, emu_driver.things};
  emu_driver.things = thing;
  return thing;
}

bool driver_is(const void *handle, enum kind kind) {
  for (const struct thing *thing = emu_driver.things; thing; thing = thing->next)
    if (thing == handle) return thing->kind == kind;
  return false;
}

/* --- Setting it up */

static void set_failure(int nth, CUresult error, enum stub_failing how) {
  emu_driver.calls = 0, emu_driver.first_failed = "";
  emu_driver.fail_nth = nth, emu_driver.fail_error = error, emu_driver.fail_how = how;
}

static void configure(void) {
  const char *version = getenv("FG_STUB_VERSION"), *devices = getenv("FG_STUB_DEVICES"), *fail = getenv("FG_STUB_FAIL");
  emu_driver.configured = true;
  emu_driver.version = CUDA_VERSION;
  set_failure(0, CUDA_SUCCESS, STUB_ONCE);
  if (driver_has_runner()) { /* no stand-in for tests */
    driver_set_devices(emu_runner.device);
    return;
  }
  if (version) emu_driver.version = atoi(version);
  driver_set_devices(devices ? devices : "h100");
  char *rest = NULL;
  long nth = fail ? strtol(fail, &rest, 10) : 0, error = nth && *rest == ':' ? strtol(rest + 1, &rest, 10) : 0;
  if (error)
    set_failure((int)nth, (CUresult)error,
                strcmp(rest, ":ever") == 0     ? STUB_FOR_EVER
                : strcmp(rest, ":sticky") == 0 ? STUB_STICKY
                                               : STUB_ONCE);
}

void driver_lock(void) {
  pthread_mutex_lock(&mutex);
  if (!emu_driver.configured) configure();
}

void driver_unlock(void) { pthread_mutex_unlock(&mutex); }

void stub_reset(void) {
  driver_lock();
  for (struct thing *thing = emu_driver.things; thing; thing = thing->next)
    if (thing->kind == STREAM) ((CUstream)thing)->graph = NULL; /* which is in the list by itself */
  while (emu_driver.things) driver_forget(emu_driver.things);
  memset(&emu_driver, 0, sizeof emu_driver);
  emu_driver_stack.depth = 0;
  configure();
  driver_unlock();
}

void stub_version(int version) {
  driver_lock();
  emu_driver.version = version;
  driver_unlock();
}

void stub_devices(const char *list) {
  driver_lock();
  driver_set_devices(list);
  driver_unlock();
}

void stub_fail(int nth, CUresult error, enum stub_failing how) {
  driver_lock();
  set_failure(nth, error, how);
  driver_unlock();
}

int stub_calls(void) {
  driver_lock();
  int calls = emu_driver.calls;
  driver_unlock();
  return calls;
}

const char *stub_first_failed(void) {
  driver_lock();
  const char *function = emu_driver.first_failed;
  driver_unlock();
  return function;
}

struct stub_live stub_live(void) {
  driver_lock();
  struct stub_live live = {.pushed = emu_driver_stack.depth};
  for (int i = 0; i < emu_driver.devices; i++) live.contexts += emu_driver.context[i].retained;
  for (const struct thing *thing = emu_driver.things; thing; thing = thing->next) {
    live.allocations += thing->kind == MEMORY && ((const struct memory *)thing)->backing != HOST;
    live.libraries += thing->kind == LIBRARY;
    live.streams += thing->kind == STREAM;
    live.events += thing->kind == EVENT;
    live.graphs += thing->kind == GRAPH || thing->kind == GRAPH_EXEC;
  }
  driver_unlock();
  return live;
}

void stub_register(void *pointer, size_t bytes, enum stub_memory kind) {
  driver_lock();
  struct memory *memory = driver_memory_at((uintptr_t)pointer);
  if (memory && memory->backing == HOST) driver_forget(&memory->thing);
  if (kind != STUB_UNKNOWN && (memory = driver_make(MEMORY, sizeof *memory, 0)) != NULL)
    memory->begin = (uintptr_t)pointer, memory->bytes = bytes, memory->backing = HOST, memory->is_managed = kind == STUB_MANAGED;
  driver_unlock();
}

int stub_launches(void) {
  driver_lock();
  int launches = emu_driver.launches;
  driver_unlock();
  return launches;
}

bool stub_launched(int index, struct stub_launch *launch) {
  driver_lock();
  bool kept = index >= 0 && index < emu_driver.launches && index >= emu_driver.launches - KEPT_LAUNCHES;
  if (kept) *launch = emu_driver.launch[index % KEPT_LAUNCHES];
  driver_unlock();
  return kept;
}

/* --- Calls */

CUcontext driver_current(void) { return emu_driver_stack.depth ? emu_driver_stack.context[emu_driver_stack.depth - 1] : NULL; }

static bool fails_now(enum needs needs) {
  if (emu_driver.fail_nth == 0 || emu_driver.calls < emu_driver.fail_nth) return false;
  if (emu_driver.fail_how == STUB_ONCE) return emu_driver.calls == emu_driver.fail_nth;
  return emu_driver.fail_how == STUB_FOR_EVER || needs == CURRENT;
}

CUresult driver_begin(enum needs needs, const char *function) {
  driver_lock();
  emu_driver.calls++;
  if (needs != NOTHING) driver_forget_words();
  if (fails_now(needs)) {
    if (!*emu_driver.first_failed) emu_driver.first_failed = function;
    return emu_driver.fail_error;
  }
  if (needs != NOTHING && emu_driver.initialised_by != getpid())
    return CUDA_ERROR_NOT_INITIALIZED; /* nor does a fork carry it over */
  if (needs == CURRENT && !driver_current()) return CUDA_ERROR_INVALID_CONTEXT;
  if (needs == CURRENT && driver_current()->retained == 0) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
  return CUDA_SUCCESS;
}

CUresult driver_end(CUresult result) {
  driver_unlock();
  return result;
}
