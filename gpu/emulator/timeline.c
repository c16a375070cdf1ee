/* A launch's trace in Chrome's format, which chrome://tracing and Perfetto draw: a process is a block, a thread is a warp or whatever
 * else acts in the block, a microsecond is a cycle. Events are kept until the end, since those of one track may overlap and the
 * format wants them nested: what does not fit beside the others gets a lane of its own. */
#include "costs.h"
#include "emulator.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
  WARPS = EMU_MOST_THREADS / EMU_WARP, /* tracks below this are warps */
  TRACK_BYTES = 48,
  MOST_EVENTS = 1 << 20, /* 64 MB; those after it are counted, not kept */
  MOST_LANES = 256,      /* of a track; the last holds the rest */
  LINE_BYTES = 512
};

struct event {
  unsigned block, track, place, lane; /* place: of the track among the block's rows */
  const char *what, *detail;          /* detail NULL: no number */
  emu_time from, until;
  uint64_t number;
};

struct emu_timeline {
  const struct emu_launch *launch;
  int file;
  pthread_mutex_t lock; /* of all below: clusters run side by side */
  unsigned blocks;      /* that are traced: the first so many of the grid */
  emu_time (*end)[WARPS];
  struct event *events;
  size_t count, room;
  uint64_t lost;
  char (*tracks)[TRACK_BYTES]; /* those that are no warps, whichever block's */
  unsigned track_count;
  emu_time cycles; /* of the cluster that took longest */
};

static unsigned blocks_to_trace(const struct emu_launch *launch, unsigned blocks) {
  uint64_t all = (uint64_t)launch->grid.x * launch->grid.y * launch->grid.z;
  if (blocks == 0) blocks = launch->cluster_size;
  return blocks < all ? blocks : (unsigned)all;
}

struct emu_timeline *emu_timeline_open(const char *path, const struct emu_launch *launch, unsigned blocks) {
  struct emu_timeline *timeline = calloc(1, sizeof *timeline);
  if (!timeline) return NULL;
  *timeline = (struct emu_timeline){.launch = launch, .blocks = blocks_to_trace(launch, blocks)};
  timeline->end = calloc(timeline->blocks, sizeof *timeline->end);
  timeline->file = timeline->end ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : -1;
  if (timeline->file < 0) {
    free(timeline->end);
    free(timeline);
    return NULL;
  }
  pthread_mutex_init(&timeline->lock, NULL);
  return timeline;
}

/* --- While it runs */

/* In the grid, as blocks are numbered: x fastest. */
static unsigned number_of(const struct emu_block *block) {
  const struct emu_index *grid = &block->cluster->launch->grid, *index = &block->index;
  return index->x + grid->x * (index->y + grid->y * index->z);
}

static void add(struct emu_timeline *timeline, struct event event) {
  if (timeline->count == timeline->room) {
    size_t room = timeline->room ? 2 * timeline->room : 1024;
    struct event *more = room <= MOST_EVENTS ? realloc(timeline->events, room * sizeof *more) : NULL;
    if (!more) {
      timeline->lost++;
      return;
    }
    timeline->events = more;
    timeline->room = room;
  }
  timeline->events[timeline->count++] = event;
}

void emu_timeline_thread(const struct emu_thread *thread, const char *what, emu_time from, emu_time until) {
  struct emu_timeline *timeline = thread->block->cluster->launch->timeline;
  if (!timeline || thread->index % EMU_WARP != 0) return;
  unsigned block = number_of(thread->block), warp = thread->index / EMU_WARP;
  if (block >= timeline->blocks) return;
  pthread_mutex_lock(&timeline->lock);
  if (until > timeline->end[block][warp]) timeline->end[block][warp] = until;
  add(timeline, (struct event){.block = block, .track = warp, .what = what, .from = from, .until = until});
  pthread_mutex_unlock(&timeline->lock);
}

/* The track of this name, made if there is none; 0, which is no such track: no memory. */
static unsigned track_named(struct emu_timeline *timeline, const char *name) {
  for (unsigned i = 0; i < timeline->track_count; i++)
    if (strcmp(timeline->tracks[i], name) == 0) return WARPS + i;
  void *more = realloc(timeline->tracks, (timeline->track_count + 1) * sizeof *timeline->tracks);
  if (!more) return 0;
  timeline->tracks = more;
  snprintf(timeline->tracks[timeline->track_count], TRACK_BYTES, "%s", name);
  return WARPS + timeline->track_count++;
}

void emu_timeline_engine(const struct emu_block *block, const char *track, const char *what, emu_time from, emu_time until,
                         const char *detail, uint64_t number) {
  struct emu_timeline *timeline = block->cluster->launch->timeline;
  if (!timeline || number_of(block) >= timeline->blocks) return;
  pthread_mutex_lock(&timeline->lock);
  struct event event = {.block = number_of(block), .track = track_named(timeline, track), .what = what, .detail = detail};
  event.from = from < until ? from : until; /* drawn times: it may be over before the model would have begun it */
  event.until = until;
  event.number = number;
  if (event.track == 0)
    timeline->lost++;
  else
    add(timeline, event);
  pthread_mutex_unlock(&timeline->lock);
}

void emu_timeline_ended(const struct emu_thread *thread) {
  struct emu_timeline *timeline = thread->block->cluster->launch->timeline;
  if (!timeline) return;
  unsigned block = number_of(thread->block), warp = thread->index / EMU_WARP;
  pthread_mutex_lock(&timeline->lock);
  if (thread->now > timeline->cycles) timeline->cycles = thread->now;
  if (block < timeline->blocks && thread->now > timeline->end[block][warp]) timeline->end[block][warp] = thread->now;
  pthread_mutex_unlock(&timeline->lock);
}

/* --- The file */

static int by_track_and_time(const void *left, const void *right) {
  const struct event *a = left, *b = right;
  if (a->block != b->block) return a->block < b->block ? -1 : 1;
  if (a->place != b->place) return a->place < b->place ? -1 : 1;
  if (a->from != b->from) return a->from < b->from ? -1 : 1;
  return (a->until > b->until) - (a->until < b->until);
}

/* Whether a track comes before another: engines, then mbarriers as they lie. Shorter names do, else the alphabet decides. */
static bool precedes(const char *name, const char *other) {
  size_t length = strlen(name), other_length = strlen(other);
  return length != other_length ? length < other_length : strcmp(name, other) < 0;
}

/* The track's place among all that are no warps. */
static unsigned place_of(const struct emu_timeline *timeline, unsigned track) {
  unsigned place = WARPS;
  for (unsigned i = 0; i < timeline->track_count; i++) place += precedes(timeline->tracks[i], timeline->tracks[track - WARPS]);
  return place;
}

/* What colours go by. The words are those of the vocabulary: "tma_load_2d", "bulk_wait_read". */
static const char *category(const struct event *event) {
  const char *what = event->what;
  if (event->track < WARPS) {
    if (strstr(what, "mbarrier_wait")) return "wait for an mbarrier";
    if (strstr(what, "wgmma_wait")) return "wait for the tensor core";
    if (strstr(what, "bulk_wait")) return "wait for stores";
    return "wait for threads";
  }
  if (strstr(what, "load")) return "load";
  if (strstr(what, "store") || strstr(what, "send")) return "store";
  return strcmp(what, "wgmma") == 0 ? "multiply" : "phase";
}

/* The lines of the file, in pieces. */
struct output {
  int file;
  bool failed;
  const char *separator; /* before the next event */
  size_t used;
  char bytes[1 << 16];
};

static void flush(struct output *output) {
  for (size_t done = 0; done < output->used && !output->failed;) {
    ssize_t written = write(output->file, output->bytes + done, output->used - done);
    if (written < 0)
      output->failed = true;
    else
      done += (size_t)written;
  }
  output->used = 0;
}

__attribute__((format(printf, 2, 3))) static void put(struct output *output, const char *format, ...) {
  char line[LINE_BYTES];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  if (length < 0 || length >= LINE_BYTES) {
    output->failed = true; /* longer than any line here is */
    return;
  }
  if (output->used + (size_t)length > sizeof output->bytes) flush(output);
  memcpy(output->bytes + output->used, line, (size_t)length);
  output->used += (size_t)length;
}

static const char *separator(struct output *output) {
  const char *now = output->separator;
  output->separator = ",\n";
  return now;
}

static void put_name(struct output *output, const char *kind, unsigned block, unsigned row, const char *name) {
  put(output, "%s{\"ph\": \"M\", \"name\": \"%s_name\", \"pid\": %u, \"tid\": %u, \"args\": {\"name\": \"%s\"}}",
      separator(output), kind, block, row, name);
  put(output, "%s{\"ph\": \"M\", \"name\": \"%s_sort_index\", \"pid\": %u, \"tid\": %u, \"args\": {\"sort_index\": %u}}",
      separator(output), kind, block, row, strcmp(kind, "process") == 0 ? block : row);
}

static void put_event(struct output *output, const struct event *event, unsigned row) {
  put(output,
      "%s{\"ph\": \"X\", \"name\": \"%s\", \"cat\": \"%s\", \"pid\": %u, \"tid\": %u, \"ts\": %" PRIu64 ", \"dur\": %" PRIu64,
      separator(output), event->what, category(event), event->block, row, event->from, event->until - event->from);
  if (event->detail) put(output, ", \"args\": {\"%s\": %" PRIu64 "}", event->detail, event->number);
  put(output, "}");
}

/* The block and its warps; each has one event that is all of its time in the kernel, and holds the others. */
static void put_block(struct output *output, const struct emu_timeline *timeline, unsigned block) {
  const struct emu_index *size = &timeline->launch->block_size;
  unsigned threads = size->x * size->y * size->z;
  char name[TRACK_BYTES];
  snprintf(name, sizeof name, "block %u", block);
  put_name(output, "process", block, 0, name);
  for (unsigned warp = 0; warp * EMU_WARP < threads; warp++) {
    snprintf(name, sizeof name, "warp %u", warp);
    put_name(output, "thread", block, warp, name);
    put(output,
        "%s{\"ph\": \"X\", \"name\": \"%s\", \"cat\": \"kernel\", \"pid\": %u, \"tid\": %u, \"ts\": 0, \"dur\": %" PRIu64 "}",
        separator(output), timeline->launch->kernel, block, warp, timeline->end[block][warp]);
  }
}

/* Of the events [first, end), all of one track in the order of time, each gets the first lane that is free. Returns how many lanes. */
static unsigned find_lanes(struct event *events, size_t first, size_t end) {
  emu_time free_at[MOST_LANES];
  unsigned lanes = 0;
  for (size_t i = first; i < end; i++) {
    unsigned lane = 0;
    while (lane < lanes && lane < MOST_LANES - 1 && free_at[lane] > events[i].from) lane++;
    if (lane == lanes) lanes++;
    free_at[lane] = events[i].until;
    events[i].lane = lane;
  }
  return lanes;
}

/* All events of what is no warp in one block, [*next, ...), each lane of a track being a row. */
static void put_events(struct output *output, struct emu_timeline *timeline, unsigned block, size_t *next) {
  struct event *events = timeline->events;
  unsigned row = WARPS;
  while (*next < timeline->count && events[*next].block == block) {
    size_t first = *next, end = first;
    unsigned track = events[first].track;
    while (end < timeline->count && events[end].block == block && events[end].track == track) end++;
    unsigned first_row = track < WARPS ? track : row, lanes = track < WARPS ? 0 : find_lanes(events, first, end);
    for (unsigned lane = 0; lane < lanes; lane++) put_name(output, "thread", block, row++, timeline->tracks[track - WARPS]);
    for (size_t i = first; i < end; i++) put_event(output, &events[i], first_row + events[i].lane);
    *next = end;
  }
}

static void put_launch(struct output *output, const struct emu_timeline *timeline) {
  const struct emu_launch *launch = timeline->launch;
  put(output,
      "\n], \"displayTimeUnit\": \"ns\", \"otherData\": {\"kernel\": \"%s\", \"seed\": %" PRIu64 ", \"cycles\": %" PRIu64
      ", \"clock_mhz\": %d",
      launch->kernel, launch->seed, timeline->cycles, COST_CLOCK_MHZ);
  put(output,
      ", \"grid\": [%u, %u, %u], \"block\": [%u, %u, %u], \"cluster\": %u, \"blocks_traced\": %u, \"events_lost\": %" PRIu64
      "}}\n",
      launch->grid.x, launch->grid.y, launch->grid.z, launch->block_size.x, launch->block_size.y, launch->block_size.z,
      launch->cluster_size, timeline->blocks, timeline->lost);
}

bool emu_timeline_close(struct emu_timeline *timeline) {
  if (!timeline) return true;
  struct output *output = calloc(1, sizeof *output);
  bool written = false;
  if (output) {
    size_t next = 0;
    output->file = timeline->file;
    output->separator = "";
    for (size_t i = 0; i < timeline->count; i++) {
      struct event *event = &timeline->events[i];
      event->place = event->track < WARPS ? event->track : place_of(timeline, event->track);
    }
    if (timeline->count) qsort(timeline->events, timeline->count, sizeof *timeline->events, by_track_and_time);
    put(output, "{\"traceEvents\": [\n");
    for (unsigned block = 0; block < timeline->blocks; block++) {
      put_block(output, timeline, block);
      put_events(output, timeline, block, &next);
    }
    put_launch(output, timeline);
    flush(output);
    written = !output->failed;
  }
  written = close(timeline->file) == 0 && written;
  pthread_mutex_destroy(&timeline->lock);
  free(output);
  free(timeline->tracks);
  free(timeline->events);
  free(timeline->end);
  free(timeline);
  return written;
}
