/* The emulator's traces, and the picture that the program makes of one. */
#include "cli.h"
#include "emulator.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WARPS = 3, BLOCKS = 4 };

static char path[64];

static struct emu_launch make_launch(void) {
  snprintf(path, sizeof path, "timeline-%ld.json", (long)getpid());
  return (struct emu_launch){
      .kernel = "ring", .grid = {2, 2, 1}, .block_size = {8, 12, 1}, .cluster_size = 2, .seed = 7}; /* three warps */
}

static struct emu_index index_of(unsigned block) { return (struct emu_index){block % 2, block / 2, 0}; }

/* Every block's warps wait twice, its copy engine has three loads under way at once, its mbarrier goes through two phases. */
static void run_blocks(const struct emu_launch *launch) {
  struct emu_cluster cluster = {.launch = launch};
  for (unsigned b = 0; b < BLOCKS; b++) {
    struct emu_block block = {.cluster = &cluster, .index = index_of(b)};
    for (unsigned t = 0; t < WARPS * EMU_WARP; t++) {
      struct emu_thread thread = {.block = &block, .index = t};
      emu_timeline_thread(&thread, "mbarrier_wait", 10, 50 + b);
      emu_timeline_thread(&thread, "sync_threads", 60, 70);
      thread.now = 100 + 10 * b + t;
      emu_timeline_ended(&thread);
    }
    emu_timeline_engine(&block, "mbarrier at byte 1024", "phase", 0, 40, "number", 0);
    emu_timeline_engine(&block, "mbarrier at byte 512", "phase", 0, 40, "number", 0);
    emu_timeline_engine(&block, "mbarrier at byte 512", "phase", 40, 80, "number", 1);
    emu_timeline_engine(&block, "copy engine", "tma_load", 20, 45, "bytes", 4096);
    emu_timeline_engine(&block, "copy engine", "tma_load", 10, 40, "bytes", 4096);
    emu_timeline_engine(&block, "copy engine", "tma_store", 40, 90, NULL, 0);
    emu_timeline_engine(&block, "copy engine", "bulk_load", 15, 42, "bytes", 16);
    emu_timeline_engine(&block, "tensor core", "wgmma", 80, 70, "n", 64); /* over before it should have begun */
  }
}

static json_t *load(void) {
  json_error_t error;
  json_t *trace = json_load_file(path, 0, &error);
  cr_assert(trace, "%s: line %d: %s", path, error.line, error.text);
  cr_assert(unlink(path) == 0);
  return trace;
}

static json_t *trace_of_blocks(struct emu_launch launch, unsigned blocks) {
  launch.timeline = emu_timeline_open(path, &launch, blocks);
  cr_assert(launch.timeline);
  run_blocks(&launch);
  cr_assert(emu_timeline_close(launch.timeline));
  return load();
}
static json_t *trace_of(struct emu_launch launch) { return trace_of_blocks(launch, 0); }

static json_int_t number(const json_t *event, const char *key) { return json_integer_value(json_object_get(event, key)); }
static const char *word(const json_t *event, const char *key) { return json_string_value(json_object_get(event, key)); }

/* The name of the row that an event is in. */
static const char *row_of(const json_t *trace, const json_t *of) {
  size_t i;
  const json_t *event;
  json_array_foreach(json_object_get(trace, "traceEvents"), i, event) {
    if (strcmp(word(event, "name"), "thread_name") == 0 && number(event, "pid") == number(of, "pid") &&
        number(event, "tid") == number(of, "tid"))
      return word(json_object_get(event, "args"), "name");
  }
  return "none";
}

/* How many events have this name, in this block, in a row of this name. */
static int count(const json_t *trace, int block, const char *name, const char *row) {
  int found = 0;
  size_t i;
  const json_t *event;
  json_array_foreach(json_object_get(trace, "traceEvents"), i, event) {
    if (strcmp(word(event, "ph"), "X") == 0 && number(event, "pid") == block && strcmp(word(event, "name"), name) == 0)
      found += strcmp(row_of(trace, event), row) == 0;
  }
  return found;
}

/* Of two events in one row either one is over when the other begins, or one holds the other. */
static int events_that_cross(const json_t *trace) {
  int crossing = 0;
  size_t i, j;
  const json_t *a, *b, *events = json_object_get(trace, "traceEvents");
  json_array_foreach(events, i, a) {
    json_array_foreach(events, j, b) {
      if (strcmp(word(a, "ph"), "X") != 0 || strcmp(word(b, "ph"), "X") != 0 || number(a, "pid") != number(b, "pid") ||
          number(a, "tid") != number(b, "tid"))
        continue;
      json_int_t a0 = number(a, "ts"), a1 = a0 + number(a, "dur"), b0 = number(b, "ts"), b1 = b0 + number(b, "dur");
      crossing += a0 < b0 && b0 < a1 && a1 < b1;
    }
  }
  return crossing;
}

Test(timeline, has_a_row_for_each_warp_and_for_whatever_else_acts) {
  json_t *trace = trace_of(make_launch());
  for (int block = 0; block < 2; block++) {
    cr_expect_eq(count(trace, block, "ring", "warp 2"), 1);
    cr_expect_eq(count(trace, block, "mbarrier_wait", "warp 1"), 1); /* of its first thread, and of no other */
    cr_expect_eq(count(trace, block, "sync_threads", "warp 0"), 1);
    cr_expect_eq(count(trace, block, "phase", "mbarrier at byte 512"), 2);
    cr_expect_eq(count(trace, block, "tma_load", "copy engine"), 2);
    cr_expect_eq(count(trace, block, "tma_store", "copy engine"), 1);
    cr_expect_eq(count(trace, block, "wgmma", "tensor core"), 1);
  }
  cr_expect_eq(events_that_cross(trace), 0);
  json_decref(trace);
}

Test(timeline, holds_the_first_cluster_or_as_many_blocks_as_are_asked_for) {
  json_t *trace = trace_of(make_launch());
  cr_expect_eq(count(trace, 1, "ring", "warp 0"), 1);
  cr_expect_eq(count(trace, 2, "ring", "warp 0"), 0);
  json_decref(trace);
  for (int asked = 1; asked <= BLOCKS + 1; asked++) {
    trace = trace_of_blocks(make_launch(), (unsigned)asked);
    for (int block = 0; block <= BLOCKS; block++)
      cr_expect_eq(count(trace, block, "sync_threads", "warp 0"), block < asked && block < BLOCKS, "block %d of %d", block,
                   asked);
    json_decref(trace);
  }
}

Test(timeline, says_what_was_launched_and_how_long_it_took) {
  json_t *trace = trace_of(make_launch()), *about = json_object_get(trace, "otherData");
  cr_expect_str_eq(word(about, "kernel"), "ring");
  cr_expect_eq(number(about, "seed"), 7);
  cr_expect_eq(number(about, "cycles"), 100 + 10 * (BLOCKS - 1) + WARPS * EMU_WARP - 1); /* also of blocks that are not traced */
  cr_expect_gt(number(about, "clock_mhz"), 0);
  cr_expect_eq(number(about, "blocks_traced"), 2);
  cr_expect_eq(number(about, "events_lost"), 0);
  json_decref(trace);
}

Test(timeline, of_a_launch_in_which_nothing_ended_is_a_trace_too) {
  struct emu_launch launch = make_launch();
  launch.timeline = emu_timeline_open(path, &launch, 0);
  cr_assert(emu_timeline_close(launch.timeline));
  json_t *trace = load();
  cr_expect_eq(number(json_object_get(trace, "otherData"), "cycles"), 0);
  json_decref(trace);
}

Test(timeline, says_when_it_cannot_be_written) {
  struct emu_launch launch = make_launch();
  cr_expect_null(emu_timeline_open("no/such/folder", &launch, 0));
  launch.timeline = emu_timeline_open("/dev/full", &launch, 0);
  cr_assert(launch.timeline);
  run_blocks(&launch);
  cr_expect_not(emu_timeline_close(launch.timeline));
  cr_expect(emu_timeline_close(NULL));
}

Test(timeline, counts_what_it_has_no_room_for) {
  struct emu_launch launch = make_launch();
  launch.timeline = emu_timeline_open(path, &launch, 0);
  struct emu_cluster cluster = {.launch = &launch};
  struct emu_block block = {.cluster = &cluster};
  const unsigned most = 1 << 20;
  for (unsigned i = 0; i < most + 5; i++) emu_timeline_engine(&block, "tensor core", "wgmma", i, i + 1, NULL, 0);
  cr_assert(emu_timeline_close(launch.timeline));
  json_t *trace = load();
  cr_expect_eq(number(json_object_get(trace, "otherData"), "events_lost"), 5);
  json_decref(trace);
}

/* --- The picture */

static int occurrences(const char *text, const char *of) {
  int found = 0;
  for (; (text = strstr(text, of)) != NULL; text++) found++;
  return found;
}

/* Whether every element is closed, in order; attributes are quoted; and no < or & stands in a text. */
static bool is_well_formed(const char *xml) {
  const char *open[16];
  int depth = 0;
  while (*xml) {
    if (*xml == '&') return false; /* what is written as &#60; is taken out by the caller */
    if (*xml++ != '<') continue;
    bool closes = *xml == '/';
    const char *name = xml + closes, *end = name + strcspn(name, " />");
    int length = (int)(end - name);
    while (*end && *end != '>') end += *end == '"' ? strcspn(end + 1, "\"") + 2 : 1;
    if (*end != '>' || length == 0) return false;
    if (closes && (depth == 0 || strncmp(open[--depth], name, (size_t)length) != 0)) return false;
    if (!closes && end[-1] != '/') open[depth++] = name;
    if (depth == 16) return false;
    xml = end + 1;
  }
  return depth == 0;
}

Test(timeline, becomes_a_picture) {
  json_t *trace = trace_of(make_launch());
  size_t bytes;
  char *svg = timeline_svg(trace, "m 4 < n 5", &bytes);
  cr_assert_eq(strlen(svg), bytes);
  cr_expect_eq(occurrences(svg, ">warp 1<"), 2); /* blocks */
  cr_expect_eq(occurrences(svg, ">copy engine<"), 2);
  cr_expect_eq(occurrences(svg, ">block 1<"), 1);
  cr_expect_eq(occurrences(svg, ">loads<"), 1);
  cr_expect_eq(occurrences(svg, ">multiplies<"), 1);
  cr_expect_eq(occurrences(svg, ">waits for stores<"), 0); /* nothing did */
  cr_expect_eq(occurrences(svg, ">m 4 &#60; n 5<"), 1);
  cr_expect_not(is_well_formed(svg), "an entity is not seen");
  char *entity = strstr(svg, "&#60;");
  memset(entity, ' ', 5);
  cr_expect(is_well_formed(svg), "%s", svg);
  json_decref(trace);
  free(svg);
}

/* What is too short to see is drawn with what is next to it: a long trace makes no large file. */
Test(timeline, becomes_a_small_picture_however_long_it_is) {
  struct emu_launch launch = make_launch();
  launch.timeline = emu_timeline_open(path, &launch, 0);
  struct emu_cluster cluster = {.launch = &launch};
  struct emu_block block = {.cluster = &cluster};
  for (unsigned i = 0; i < 100000; i++) emu_timeline_engine(&block, "tensor core", "wgmma", 10 * i, 10 * i + 5, NULL, 0);
  cr_assert(emu_timeline_close(launch.timeline));
  json_t *trace = load();
  size_t bytes;
  char *svg = timeline_svg(trace, "", &bytes);
  cr_expect_lt(bytes, 8 << 10);
  json_decref(trace);
  free(svg);
}
