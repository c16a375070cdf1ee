/* What a processor answers to an instruction that it cannot do, by a signal: of a kernel's thread it is a fault of the launch, of
 * anything else in the process what it was before. The handlers are there while launches run. */
#define _GNU_SOURCE /* REG_RIP */
#include "load_image.h"
#include "scheduler.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { KINDS = 4, HANDLER_BYTES = 1 << 17 };
static const int signals[KINDS] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned users;
static struct sigaction before[KINDS];

static const void *place_of(const struct emu_thread *self, const void *context) {
#ifdef __x86_64__
  const struct emu_image *image = self->block->cluster->launch->image;
  uintptr_t at = (uintptr_t)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
  if (image && at >= image->base && at < image->end) return (const void *)(at + 1); /* as if it were a return address */
#else
  (void)context;
#endif
  return self->where;
}

static void pass_on(int number, siginfo_t *info, void *context) {
  int kind = 0;
  while (signals[kind] != number) kind++;
  const struct sigaction *previous = &before[kind];
  if (previous->sa_flags & SA_SIGINFO) {
    previous->sa_sigaction(number, info, context);
  } else if (previous->sa_handler != SIG_DFL && previous->sa_handler != SIG_IGN) {
    previous->sa_handler(number);
  } else if (info->si_code > 0 || previous->sa_handler == SIG_DFL) {
    sigaction(number, previous, NULL); /* the instruction is tried again, and ends the process */
    if (info->si_code <= 0) raise(number);
  }
}

/* On the handler's own stack, which is free again as soon as the fibre is left; that is never entered again. */
static void handle(int number, siginfo_t *info, void *context) {
  struct emu_thread *self = emu_self();
  if (!self || info->si_code <= 0) { /* sent by somebody */
    pass_on(number, info, context);
    return;
  }
  const unsigned char *stack = self->fibre->stack, *address = info->si_addr;
  const void *where = place_of(self, context);
  if (number == SIGFPE)
    emu_fault(self, where, "divides by zero, or the lowest number by -1: this machine's processor has no result");
  if (number == SIGILL)
    emu_fault(self, where, "comes to what is no instruction: behind a __builtin_unreachable(), or a wild call");
  if (address < stack && stack - address <= FIBRE_BYTES)
    emu_fault(self, where, "the thread's calls and variables take more than %d bytes", FIBRE_STACK_BYTES);
  emu_fault(self, where, "reads, writes or calls what there is not, or is misaligned, at %p", info->si_addr);
}

void *emu_signals_begin(void) {
  stack_t stack = {.ss_size = HANDLER_BYTES}, *old = calloc(1, sizeof *old + HANDLER_BYTES);
  if (!old) return NULL;
  stack.ss_sp = old + 1;
  if (sigaltstack(&stack, old) != 0) {
    free(old);
    return NULL;
  }
  pthread_mutex_lock(&lock);
  struct sigaction action = {.sa_sigaction = handle, .sa_flags = (int)(SA_SIGINFO | SA_ONSTACK)};
  sigemptyset(&action.sa_mask);
  for (int i = 0; i < KINDS && users == 0; i++) sigaction(signals[i], &action, &before[i]);
  users++;
  pthread_mutex_unlock(&lock);
  return old;
}

void emu_signals_end(void *begun) {
  if (!begun) return;
  pthread_mutex_lock(&lock);
  users--;
  for (int i = 0; i < KINDS && users == 0; i++) sigaction(signals[i], &before[i], NULL);
  pthread_mutex_unlock(&lock);
  sigaltstack(begun, NULL);
  free(begun);
}
