package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// A file system of one file of zeros, served over /dev/fuse as include/uapi/linux/fuse.h has it. It needs root. All
// integers are those of the machine, which is little-endian.

const (
	fileName = "pages"
	fileSize = 1 << 40
	// pageTakes is how long a page takes to come.
	pageTakes = 1500 * time.Microsecond

	rootNode = 1
	fileNode = 2
)

// Operations (enum fuse_opcode).
const (
	opLookup      = 1
	opForget      = 2
	opGetattr     = 3
	opOpen        = 14
	opRead        = 15
	opRelease     = 18
	opFlush       = 25
	opInit        = 26
	opOpendir     = 27
	opReleasedir  = 29
	opInterrupt   = 36
	opDestroy     = 38
	opBatchForget = 42
)

const (
	// inHeaderSize and outHeaderSize are the sizes of struct fuse_in_header and fuse_out_header.
	inHeaderSize  = 40
	outHeaderSize = 16
	// protocolMinor is the version 7.31 (Linux 5.4).
	protocolMinor = 31
	// asyncRead is FUSE_ASYNC_READ: pages that are read ahead are not waited for.
	asyncRead = 1
	// validSeconds is for how long the kernel may keep names and attributes.
	validSeconds = 1 << 20
)

// serve mounts the file system on a new folder, prints that folder, and serves it until its standard input ends.
func serve() error {
	folder, err := os.MkdirTemp("", "gmpscope-cause-")
	if err != nil {
		return err
	}
	defer os.Remove(folder)
	fd, err := syscall.Open("/dev/fuse", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening /dev/fuse: %w", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d", fd, os.Getuid(), os.Getgid())
	if err := syscall.Mount("gmpscope-cause", folder, "fuse", syscall.MS_NODEV|syscall.MS_NOSUID, options); err != nil {
		return fmt.Errorf("mounting on %s: %w", folder, err)
	}
	served := make(chan error, 1)
	go func() { served <- answerAll(fd) }()
	fmt.Println(folder)
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := syscall.Unmount(folder, syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("unmounting %s: %w", folder, err)
	}
	select {
	case err := <-served:
		return err
	default:
		return nil
	}
}

// answerAll answers requests until the file system is unmounted.
func answerAll(fd int) error {
	request := make([]byte, 128<<10)
	for {
		n, err := syscall.Read(fd, request)
		switch {
		case err == nil && n >= inHeaderSize:
		case errors.Is(err, syscall.ENODEV):
			return nil
		case errors.Is(err, syscall.EINTR), errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOENT):
			continue
		default:
			return fmt.Errorf("reading a request of %d bytes: %w", n, err)
		}
		// The kernel takes no answer to a request that has been given up meanwhile.
		if reply := answer(request[:n]); reply != nil {
			_, _ = syscall.Write(fd, reply)
		}
	}
}

// answer returns the answer to a request, or nil where none is expected.
func answer(request []byte) []byte {
	opcode := binary.LittleEndian.Uint32(request[4:])
	node := binary.LittleEndian.Uint64(request[16:])
	body := request[inHeaderSize:]
	r := newReply(request)
	switch opcode {
	case opInit:
		r.init(body)
	case opLookup:
		if node != rootNode || string(body) != fileName+"\x00" {
			return r.failed(syscall.ENOENT)
		}
		r.entry(fileNode)
	case opGetattr:
		r.attributes(node)
	case opOpen, opOpendir:
		r.uint64(0) // fh
		r.uint64(0) // open_flags, padding
	case opRead:
		time.Sleep(pageTakes)
		r.zeros(int(binary.LittleEndian.Uint32(body[16:])))
	case opRelease, opReleasedir, opFlush, opDestroy:
	case opForget, opBatchForget, opInterrupt:
		return nil
	default:
		return r.failed(syscall.ENOSYS)
	}
	return r.done()
}

// reply is an answer that is being written.
type reply struct{ bytes []byte }

func newReply(request []byte) *reply {
	r := &reply{bytes: make([]byte, outHeaderSize, 256)}
	// fuse_out_header: len, error, unique.
	copy(r.bytes[8:16], request[8:16])
	return r
}

func (r *reply) done() []byte {
	binary.LittleEndian.PutUint32(r.bytes, uint32(len(r.bytes)))
	return r.bytes
}

func (r *reply) failed(why syscall.Errno) []byte {
	r.bytes = r.bytes[:outHeaderSize]
	binary.LittleEndian.PutUint32(r.bytes[4:], uint32(-int32(why)))
	return r.done()
}

func (r *reply) uint32(n uint32) {
	r.bytes = append(r.bytes, 0, 0, 0, 0)
	binary.LittleEndian.PutUint32(r.bytes[len(r.bytes)-4:], n)
}

func (r *reply) uint64(n uint64) {
	r.uint32(uint32(n))
	r.uint32(uint32(n >> 32))
}

func (r *reply) zeros(n int) { r.bytes = append(r.bytes, make([]byte, n)...) }

// init is struct fuse_init_out, to struct fuse_init_in: major, minor, max_readahead, flags.
func (r *reply) init(body []byte) {
	minor := binary.LittleEndian.Uint32(body[4:])
	if minor > protocolMinor {
		minor = protocolMinor
	}
	r.uint32(7)
	r.uint32(minor)
	r.uint32(uint32(os.Getpagesize())) // max_readahead: one page at a time
	r.uint32(asyncRead)
	r.uint32(0)    // max_background, congestion_threshold: the kernel's own
	r.uint32(4096) // max_write
	r.uint32(1)    // time_gran
	r.zeros(36)    // max_pages and what came later
}

// entry is struct fuse_entry_out.
func (r *reply) entry(node uint64) {
	r.uint64(node)
	r.uint64(0) // generation
	r.uint64(validSeconds)
	r.uint64(validSeconds)
	r.uint64(0) // nanoseconds of both
	r.attr(node)
}

// attributes is struct fuse_attr_out.
func (r *reply) attributes(node uint64) {
	r.uint64(validSeconds)
	r.uint64(0) // nanoseconds, dummy
	r.attr(node)
}

// attr is struct fuse_attr.
func (r *reply) attr(node uint64) {
	mode, size := uint32(syscall.S_IFREG|0o444), uint64(fileSize)
	if node == rootNode {
		mode, size = syscall.S_IFDIR|0o555, 0
	}
	r.uint64(node)
	r.uint64(size)
	r.uint64(0) // blocks
	r.zeros(36) // times
	r.uint32(mode)
	r.uint32(1) // nlink
	r.uint32(uint32(os.Getuid()))
	r.uint32(uint32(os.Getgid()))
	r.uint32(0)    // rdev
	r.uint32(4096) // blksize
	r.uint32(0)    // flags
}
