/* FG_UNROLL(4) for (...): four turns of the loop become one piece of code; FG_UNROLL(1): none do. A compiler that may choose unrolls
 * what gains nothing by it, and a kernel takes longer to compile. */
#pragma once

#define FG_PRAGMA(text) _Pragma(#text)
#define FG_UNROLL(times) FG_PRAGMA(unroll times)
