#include "driver_parts.h"

bool driver_is_default(CUstream stream) { return stream == NULL || stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD; }
CUresult driver_check_stream(CUstream stream) {
  if (driver_is_default(stream)) return CUDA_SUCCESS;
  if (!driver_is(stream, STREAM)) return CUDA_ERROR_INVALID_HANDLE;
  return stream->thing.device == driver_current()->device ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult driver_spoil_captures(CUresult error) {
  CUresult result = CUDA_SUCCESS;
  for (struct thing *thing = emu_driver.things; thing; thing = thing->next) {
    CUstream stream = (CUstream)thing;
    if (thing->kind != STREAM || stream->capture != CU_STREAM_CAPTURE_STATUS_ACTIVE) continue;
    if (stream->mode == CU_STREAM_CAPTURE_MODE_RELAXED) continue;
    if (stream->mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL && !pthread_equal(stream->capturing_thread, pthread_self())) continue;
    stream->capture = CU_STREAM_CAPTURE_STATUS_INVALIDATED;
    result = error;
  }
  return result;
}

CUresult driver_enqueue(CUstream stream, CUgraph *graph) {
  *graph = NULL;
  CUresult result = driver_check_stream(stream);
  if (result != CUDA_SUCCESS) return result;
  if (stream == NULL || stream == CU_STREAM_LEGACY) return driver_spoil_captures(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
  if (driver_is_default(stream)) return CUDA_SUCCESS;
  if (stream->capture == CU_STREAM_CAPTURE_STATUS_INVALIDATED) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  if (stream->capture == CU_STREAM_CAPTURE_STATUS_ACTIVE) *graph = stream->graph;
  return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize(void) {
  BEGIN(CURRENT);
  REFUSE_WHILE_CAPTURING;
  END;
}

CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
  BEGIN(CURRENT);
  REFUSE_IF(flags > CU_STREAM_NON_BLOCKING, CUDA_ERROR_INVALID_VALUE);
  *stream = driver_make(STREAM, sizeof **stream, driver_current()->device);
  REFUSE_IF(!*stream, CUDA_ERROR_OUT_OF_MEMORY);
  END;
}

CUresult cuStreamDestroy(CUstream stream) {
  BEGIN_GIVING_BACK(CURRENT);
  REFUSE_IF(!driver_is(stream, STREAM), CUDA_ERROR_INVALID_HANDLE);
  driver_forget(&stream->thing);
  return driver_end(result);
}

CUresult cuStreamSynchronize(CUstream stream) {
  BEGIN(CURRENT);
  REFUSE_FAILURE(driver_check_stream(stream));
  REFUSE_WHILE_CAPTURING;
  END;
}

CUresult cuStreamGetCtx(CUstream stream, CUcontext *context) {
  BEGIN(CURRENT);
  REFUSE_IF(!driver_is_default(stream) && !driver_is(stream, STREAM), CUDA_ERROR_INVALID_HANDLE);
  *context = driver_is_default(stream) ? driver_current() : &emu_driver.context[stream->thing.device];
  END;
}

CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status) {
  BEGIN(CURRENT);
  REFUSE_IF(!driver_is_default(stream) && !driver_is(stream, STREAM), CUDA_ERROR_INVALID_HANDLE);
  if (stream == NULL || stream == CU_STREAM_LEGACY) { /* asking of the legacy stream spoils nothing */
    for (struct thing *thing = emu_driver.things; thing; thing = thing->next)
      REFUSE_IF(thing->kind == STREAM && ((CUstream)thing)->capture == CU_STREAM_CAPTURE_STATUS_ACTIVE &&
                    ((CUstream)thing)->mode == CU_STREAM_CAPTURE_MODE_GLOBAL,
                CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
  }
  *status = driver_is_default(stream) ? CU_STREAM_CAPTURE_STATUS_NONE : stream->capture;
  END;
}

/* --- Events: time is counted in calls */

CUresult cuEventCreate(CUevent *event, unsigned flags) {
  BEGIN(CURRENT);
  (void)flags;
  *event = driver_make(EVENT, sizeof **event, driver_current()->device);
  REFUSE_IF(!*event, CUDA_ERROR_OUT_OF_MEMORY);
  END;
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
  BEGIN(CURRENT);
  REFUSE_IF(!driver_is(event, EVENT), CUDA_ERROR_INVALID_HANDLE);
  CUgraph into;
  REFUSE_FAILURE(driver_enqueue(stream, &into));
  if (!into) event->recorded = emu_driver.calls;
  END;
}

CUresult cuEventSynchronize(CUevent event) {
  BEGIN(CURRENT);
  REFUSE_IF(!driver_is(event, EVENT), CUDA_ERROR_INVALID_HANDLE);
  REFUSE_WHILE_CAPTURING;
  END;
}

CUresult cuEventElapsedTime(float *ms, CUevent from, CUevent to) {
  BEGIN(INITIALISED);
  REFUSE_IF(!driver_is(from, EVENT) || !driver_is(to, EVENT) || !from->recorded || !to->recorded, CUDA_ERROR_INVALID_HANDLE);
  *ms = 0.001f * (float)(to->recorded - from->recorded);
  END;
}

CUresult cuEventDestroy(CUevent event) {
  BEGIN_GIVING_BACK(CURRENT);
  REFUSE_IF(!driver_is(event, EVENT), CUDA_ERROR_INVALID_HANDLE);
  driver_forget(&event->thing);
  return driver_end(result);
}
