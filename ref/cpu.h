/* Which vector instructions this process uses. All paths give the same bits. */
#ifndef FG_CPU_H
#define FG_CPU_H

enum fg_isa { FG_ISA_PLAIN = 0, FG_ISA_AVX2 = 1, FG_ISA_AVX512 = 2 }; /* AVX2 with FMA and F16C; AVX-512 F, BW, VL, DQ */

/* The best that the machine has, or a lesser one that FG_ISA=plain|avx2|avx512 in the environment or fg_set_isa() asks for. */
enum fg_isa fg_isa(void);

/* For tests and benchmarks: from now on use `isa`. Returns 0, and changes nothing, if the machine does not have it. */
int fg_set_isa(enum fg_isa isa);

const char *fg_isa_name(enum fg_isa isa);

/* Threads that the process may run on. */
int fg_cpu_threads(void);

#endif
