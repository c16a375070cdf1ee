/* FG_UNROLL(4) for (...): no matter here. */
#pragma once

#define FG_UNROLL(times)
