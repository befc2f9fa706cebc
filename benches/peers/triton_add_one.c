/* A native Triton backend that adds one to an FP32 tensor: what Triton's protocol costs when the model costs nothing.
 *
 * Build: cc -O2 -shared -fPIC -o libtriton_addone.so triton_add_one.c
 *
 * Only the declarations that are used stand here, after Triton's public backend API, version 1. */
#include <stdint.h>
#include <string.h>

typedef struct Error Error;
typedef struct Instance Instance;
typedef struct Request Request;
typedef struct Response Response;
typedef struct Input Input;
typedef struct Output Output;

enum { TYPE_FP32 = 11, MEMORY_CPU = 0, RELEASE_ALL = 1, RESPONSE_FINAL = 1 };

extern Error *TRITONBACKEND_RequestInputByIndex(Request *, uint32_t index, Input **);
extern Error *TRITONBACKEND_InputProperties(Input *, const char **name, int *type, const int64_t **shape,
                                            uint32_t *rank, uint64_t *bytes, uint32_t *buffers);
extern Error *TRITONBACKEND_InputBuffer(Input *, uint32_t index, const void **buffer, uint64_t *bytes, int *memory,
                                        int64_t *memory_id);
extern Error *TRITONBACKEND_ResponseNew(Response **, Request *);
extern Error *TRITONBACKEND_ResponseOutput(Response *, Output **, const char *name, int type, const int64_t *shape,
                                           uint32_t rank);
extern Error *TRITONBACKEND_OutputBuffer(Output *, void **buffer, uint64_t bytes, int *memory, int64_t *memory_id);
extern Error *TRITONBACKEND_ResponseSend(Response *, uint32_t flags, Error *);
extern Error *TRITONBACKEND_RequestRelease(Request *, uint32_t flags);

static Error *answer(Request *request) {
    Input *input;
    Response *response;
    Output *output;
    const int64_t *shape;
    uint32_t rank, buffers;
    uint64_t bytes;
    int64_t memory_id = 0;
    int type, memory = MEMORY_CPU;
    void *to;
    Error *error;
    if ((error = TRITONBACKEND_RequestInputByIndex(request, 0, &input))) return error;
    if ((error = TRITONBACKEND_InputProperties(input, 0, &type, &shape, &rank, &bytes, &buffers))) return error;
    if ((error = TRITONBACKEND_ResponseNew(&response, request))) return error;
    if ((error = TRITONBACKEND_ResponseOutput(response, &output, "OUTPUT0", TYPE_FP32, shape, rank))) return error;
    if ((error = TRITONBACKEND_OutputBuffer(output, &to, bytes, &memory, &memory_id))) return error;
    uint64_t done = 0;
    for (uint32_t i = 0; i < buffers; i++) {
        const void *from;
        uint64_t part;
        if ((error = TRITONBACKEND_InputBuffer(input, i, &from, &part, &memory, &memory_id))) return error;
        memcpy((char *)to + done, from, part);
        done += part;
    }
    for (uint64_t i = 0; i < bytes / 4; i++) ((float *)to)[i] += 1.0f;
    return TRITONBACKEND_ResponseSend(response, RESPONSE_FINAL, 0);
}

Error *TRITONBACKEND_ModelInstanceExecute(Instance *instance, Request **requests, uint32_t count) {
    (void)instance;
    for (uint32_t i = 0; i < count; i++) {
        Error *error = answer(requests[i]);
        if (error) return error;
        if ((error = TRITONBACKEND_RequestRelease(requests[i], RELEASE_ALL))) return error;
    }
    return 0;
}
