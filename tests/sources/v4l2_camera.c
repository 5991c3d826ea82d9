/* A thermal camera of Video4Linux for the process that preloads this; what opens its device talks to it as to a driver.
 *
 * It stands in for a kernel module, which only the machine's owner can load. It sends the frames of a file, 16 bits a
 * pixel (Y16), one after the other. Its cable is pulled after every so many, and put in again when the device is opened
 * next; after the last frame it is silent.
 *
 * CAMERA_DEVICE  path of the device
 * CAMERA_FRAMES  file of frames
 * CAMERA_SIZE    WIDTHxHEIGHT in px
 * CAMERA_PULLED  frames from one pull of the cable to the next
 * CAMERA_TORN    number of the frame of which a part is lost
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { BUFFERS = 4 };

static int camera = -1;    /* as opened; its bytes are the buffers that are mapped */
static unsigned width, height, rate = 25;
static unsigned queued[BUFFERS], waiting, first; /* buffers that the reader lent, in order */
static long sent, pulled;
static double due; /* s, when the next frame is complete */

static unsigned frame_bytes(void) { return 2 * width * height; }

/* From one buffer to the next; memory is mapped by whole pages. */
static unsigned stride(void) { return (frame_bytes() + 4095) / 4096 * 4096; }

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static int fail(int why) {
    errno = why;
    return -1;
}

static int plug_in(int flags) {
    if (camera >= 0) return fail(EBUSY);
    sscanf(getenv("CAMERA_SIZE"), "%ux%u", &width, &height);
    pulled = sent + atol(getenv("CAMERA_PULLED"));
    camera = memfd_create("camera", 0);
    waiting = first = 0;
    if (camera < 0 || ftruncate(camera, (off_t)BUFFERS * stride()) < 0) return -1;
    fcntl(camera, F_SETFL, flags & O_NONBLOCK);
    return camera;
}

/* The next frame into the buffer that was lent first. */
static int take(struct v4l2_buffer *buffer) {
    double at = due;
    if (sent == pulled) return fail(ENODEV);
    if (!waiting) return fail(EINVAL);
    FILE *file = fopen(getenv("CAMERA_FRAMES"), "rb");
    void *pixels = malloc(frame_bytes());
    int there = file && pixels && !fseek(file, sent * (long)frame_bytes(), SEEK_SET) &&
                fread(pixels, frame_bytes(), 1, file) == 1;
    if (file) fclose(file);
    if (!there) at += 1e6;
    while (now() < at) {
        if (fcntl(camera, F_GETFL) & O_NONBLOCK) {
            free(pixels);
            return fail(EAGAIN);
        }
        usleep(1000);
    }
    unsigned index = queued[first];
    first = (first + 1) % BUFFERS, waiting--;
    ssize_t written = pwrite(camera, pixels, frame_bytes(), (off_t)index * stride());
    free(pixels);
    if (written != (ssize_t)frame_bytes()) return -1;
    buffer->index = index;
    buffer->length = frame_bytes();
    buffer->bytesused = sent == atol(getenv("CAMERA_TORN")) ? frame_bytes() / 2 : frame_bytes();
    buffer->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    buffer->timestamp.tv_sec = (long)at;
    buffer->timestamp.tv_usec = (long)(1e6 * (at - (long)at));
    buffer->sequence = sent++;
    due = at + 1.0 / rate;
    return 0;
}

static int answer(unsigned long request, void *argument) {
    struct v4l2_format *format = argument;
    struct v4l2_streamparm *stream = argument;
    struct v4l2_buffer *buffer = argument;
    switch (request) {
    case VIDIOC_QUERYCAP:
        ((struct v4l2_capability *)argument)->capabilities = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        return 0;
    case VIDIOC_G_INPUT:
        *(int *)argument = 0;
        return 0;
    case VIDIOC_ENUMINPUT:
        return ((struct v4l2_input *)argument)->index ? fail(EINVAL) : 0;
    case VIDIOC_G_FMT:
    case VIDIOC_S_FMT: /* a camera of one size and one format says so, whatever it is asked for */
        format->fmt.pix.width = width, format->fmt.pix.height = height;
        format->fmt.pix.pixelformat = V4L2_PIX_FMT_Y16;
        format->fmt.pix.field = V4L2_FIELD_NONE;
        format->fmt.pix.bytesperline = 2 * width, format->fmt.pix.sizeimage = frame_bytes();
        return 0;
    case VIDIOC_S_PARM:
        rate = stream->parm.capture.timeperframe.denominator / stream->parm.capture.timeperframe.numerator;
        return 0;
    case VIDIOC_G_PARM:
        stream->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
        stream->parm.capture.timeperframe.numerator = 1, stream->parm.capture.timeperframe.denominator = rate;
        return 0;
    case VIDIOC_REQBUFS:
        ((struct v4l2_requestbuffers *)argument)->count = BUFFERS;
        return 0;
    case VIDIOC_QUERYBUF:
        buffer->length = frame_bytes(), buffer->m.offset = buffer->index * stride();
        return 0;
    case VIDIOC_QBUF:
        queued[(first + waiting++) % BUFFERS] = buffer->index;
        return 0;
    case VIDIOC_STREAMON:
        due = now() + 1.0 / rate;
        return 0;
    case VIDIOC_STREAMOFF:
        return 0;
    case VIDIOC_DQBUF:
        return take(buffer);
    }
    return fail(ENOTTY);
}

static int opened(const char *name, const char *path, int flags, mode_t mode) {
    if (!strcmp(path, getenv("CAMERA_DEVICE"))) return plug_in(flags);
    return ((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, name))(path, flags, mode);
}

#define OPEN(NAME)                                                                                                     \
    int NAME(const char *path, int flags, ...) {                                                                       \
        va_list more;                                                                                                  \
        va_start(more, flags);                                                                                         \
        mode_t mode = va_arg(more, mode_t);                                                                            \
        va_end(more);                                                                                                  \
        return opened(#NAME, path, flags, mode);                                                                       \
    }
OPEN(open)
OPEN(open64)

int close(int file) {
    if (file == camera) camera = -1;
    return ((int (*)(int))dlsym(RTLD_NEXT, "close"))(file);
}

int ioctl(int file, unsigned long request, ...) {
    va_list more;
    va_start(more, request);
    void *argument = va_arg(more, void *);
    va_end(more);
    if (file == camera && camera >= 0) return answer(request, argument);
    return ((int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl"))(file, request, argument);
}
