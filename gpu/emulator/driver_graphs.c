#include "driver_parts.h"

#include <stdlib.h>
#include <string.h>

CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode mode) {
  BEGIN(CURRENT);
  REFUSE_IF(driver_is_default(stream), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  REFUSE_FAILURE(driver_check_stream(stream));
  REFUSE_IF(stream->capture != CU_STREAM_CAPTURE_STATUS_NONE, CUDA_ERROR_ILLEGAL_STATE);
  stream->graph = driver_make(GRAPH, sizeof *stream->graph, -1);
  REFUSE_IF(!stream->graph, CUDA_ERROR_OUT_OF_MEMORY);
  stream->capture = CU_STREAM_CAPTURE_STATUS_ACTIVE, stream->mode = mode, stream->capturing_thread = pthread_self();
  END;
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
  BEGIN(CURRENT);
  *graph = NULL;
  REFUSE_IF(driver_is_default(stream) || !driver_is(stream, STREAM), CUDA_ERROR_INVALID_HANDLE);
  REFUSE_IF(stream->capture == CU_STREAM_CAPTURE_STATUS_NONE, CUDA_ERROR_ILLEGAL_STATE);
  bool spoilt = stream->capture == CU_STREAM_CAPTURE_STATUS_INVALIDATED;
  stream->capture = CU_STREAM_CAPTURE_STATUS_NONE;
  if (spoilt)
    driver_forget(&stream->graph->thing);
  else
    *graph = stream->graph;
  stream->graph = NULL;
  return driver_end(spoilt ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS);
}

static bool copy_launches(int launches, const struct stub_launch *from, struct stub_launch **to) {
  *to = calloc((size_t)launches + 1, sizeof **to);
  if (*to && launches) memcpy(*to, from, (size_t)launches * sizeof **to);
  return *to != NULL;
}

CUresult cuGraphInstantiate(CUgraphExec *executable, CUgraph graph, unsigned long long flags) {
  BEGIN(INITIALISED);
  REFUSE_IF(!driver_is(graph, GRAPH), CUDA_ERROR_INVALID_HANDLE);
  REFUSE_IF(flags != 0, CUDA_ERROR_INVALID_VALUE);
  *executable = driver_make(GRAPH_EXEC, sizeof **executable, -1);
  REFUSE_IF(!*executable || !copy_launches(graph->launches, graph->launch, &(*executable)->launch), CUDA_ERROR_OUT_OF_MEMORY);
  (*executable)->launches = graph->launches;
  END;
}

CUresult cuGraphLaunch(CUgraphExec executable, CUstream stream) {
  BEGIN(CURRENT);
  REFUSE_IF(!driver_is(executable, GRAPH_EXEC), CUDA_ERROR_INVALID_HANDLE);
  CUgraph into;
  REFUSE_FAILURE(driver_enqueue(stream, &into));
  REFUSE_IF(into, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  for (int i = 0; i < executable->launches && result == CUDA_SUCCESS; i++) {
    struct stub_launch launch = executable->launch[i];
    launch.stream = stream, launch.captured = false;
    driver_record(&launch);
    result = driver_run(&launch);
  }
  return driver_end(result);
}

CUresult cuGraphDestroy(CUgraph graph) {
  BEGIN_GIVING_BACK(INITIALISED);
  REFUSE_IF(!driver_is(graph, GRAPH), CUDA_ERROR_INVALID_HANDLE);
  driver_forget(&graph->thing);
  return driver_end(result);
}

CUresult cuGraphExecDestroy(CUgraphExec executable) {
  BEGIN_GIVING_BACK(INITIALISED);
  REFUSE_IF(!driver_is(executable, GRAPH_EXEC), CUDA_ERROR_INVALID_HANDLE);
  driver_forget(&executable->thing);
  return driver_end(result);
}
