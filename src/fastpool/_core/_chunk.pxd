from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from fastpool._core._arrays cimport Dtype, PyTypeObject
from fastpool._core._c cimport fp_ctl, fp_result, fp_task
from fastpool._core._codec cimport Codec, Encoded
from fastpool._core._outbox cimport Outbox
from fastpool._core._plain cimport Writer

# How the results of a chunk are being saved.
cdef enum Form:
    UNDECIDED
    INTS        # a column of native int64
    FLOATS      # a column of native doubles
    ONLY_NONE
    FLAGS       # a column of bools
    SCALARS_OF  # a column of NumPy scalars of one type
    VALUES      # tagged values, and pickles between them
    KEPT        # pickles, in case this process dies; sent is what they are at the end


cdef class Chunk:
    # The results of the chunk that runs, each in shared memory as soon as it is there.
    cdef Outbox outbox
    cdef Codec codec
    cdef fp_ctl *ctl
    cdef const fp_task *task
    cdef uint64_t ticket
    cdef Form form
    cdef int64_t *ints          # the column that is being filled, when it is one of these
    cdef double *reals
    cdef uint32_t left          # items that the task still has to do, with those that are saved
    cdef uint32_t saved         # results in the buffer
    cdef uint64_t finished      # items of the chunk that are done
    cdef bint stopped           # the pool has ended: nothing can be sent
    cdef fp_result *slot        # of the next record, whose payload may be the buffer
    cdef unsigned char *buffer
    cdef uint64_t room          # bytes of it
    cdef uint64_t block         # offset of its block; 0: it lies in the slot
    cdef Dtype dtype            # of SCALARS_OF
    cdef PyTypeObject *kind
    cdef Writer writer          # of VALUES
    cdef list kept              # of KEPT: the results themselves
    cdef uint64_t length        # of KEPT: bytes that are written
    cdef uint64_t due           # of KEPT: when to save again, in ns

    cdef int begin(self, const fp_task *task, uint64_t ticket, uint32_t skip) except -1
    cdef int add(self, object value) except -1
    cdef int add_error(self, object error) except -1
    cdef int finish(self) except -1
    cdef int flush(self) except -1
    cdef int discard(self) except -1

    cdef int decide(self, object value) except -1
    cdef int make_room(self, uint64_t size) except -1
    cdef int drop_block(self, uint64_t block) except -1
    cdef int point(self) noexcept
    cdef int more(self, uint32_t n) noexcept
    cdef bint put_in_column(self, object value) except -1
    cdef int to_values(self) except -1
    cdef int put_value(self, object value) except -1
    cdef int keep(self, object value) except -1
    cdef int save_kept(self, uint64_t now) except -1
    cdef int send_kept(self, uint8_t flags) except -1
    cdef int put_apart(self, object value) except -1
    cdef bint put_plain(self, object value) except -1
    cdef int put_pickle(self, list pieces) except -1
    cdef int rewind(self, size_t length) noexcept
    cdef int grow(self, uint64_t need) except -1
    cdef int send(self, uint8_t flags) except -1
    cdef int encode(self, object value, bint many, Encoded *out) except -1
    cdef int send_alone(self, object value) except -1
    cdef int take_slot(self) except -1
