package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"gmpscope.test/workloads/internal/control"
)

const (
	// windowSize is how much of the file is mapped at a time.
	windowSize = 64 << 20
	// stride is the distance of the pages that are touched: none is read ahead.
	stride = 64 << 10
)

// blocked: a crowd is released by a goroutine that then touches pages of a file that is mapped into memory, one after the
// other, with the only P (GOMAXPROCS=1). Each page takes 1.5 ms, since it comes from a file system of ours, and the thread
// sleeps meanwhile, so that no signal can wake it. The twin's pages are those of a tmpfs, which are there at once.
func blocked(p *control.Phase, twin bool) {
	const pages = 4
	file := mapped{fd: -1, flags: syscall.MAP_SHARED | syscall.MAP_ANON}
	if !twin {
		server := startServer()
		defer server.stop()
		file = mapped{fd: server.open(), flags: syscall.MAP_SHARED}
		defer syscall.Close(file.fd)
	}
	defer file.unmap()
	crowd := newCrowd()
	c := control.NewCounter()
	for n := uint64(0); p.More(n); n++ {
		file.prepare(pages)
		crowd.release()
		for i := 0; i < pages; i++ {
			file.touch()
		}
		crowd.await()
		c.Add(1)
		time.Sleep(time.Millisecond)
	}
	crowd.end()
}

// mapped is a file of which a part is mapped into memory at a time.
type mapped struct {
	fd, flags int
	offset    int64
	window    []byte
	// next is the place in the window that is touched next.
	next int
	sum  byte
}

// prepare sees to it that so many pages of the window have not been touched.
func (m *mapped) prepare(pages int) {
	if m.next+pages*stride <= len(m.window) {
		return
	}
	m.unmap()
	window, err := syscall.Mmap(m.fd, m.offset, windowSize, syscall.PROT_READ, m.flags)
	control.Check(err)
	// Then a missing page is read as the kernel reads ahead: the thread waits for the page, and not, so that a signal could
	// interrupt it, for the answer of the file system.
	control.Check(syscall.Madvise(window, syscall.MADV_SEQUENTIAL))
	m.window, m.next = window, 0
	m.offset += windowSize
}

// touch reads a byte of the next page.
func (m *mapped) touch() {
	m.sum += m.window[m.next]
	m.next += stride
}

func (m *mapped) unmap() {
	if m.window != nil {
		control.Check(syscall.Munmap(m.window))
		m.window = nil
	}
}

// server is a process that serves the file system. It ends when its standard input does, so with this process.
type server struct {
	command *exec.Cmd
	input   io.Closer
	folder  string
}

func startServer() *server {
	command := exec.Command("/proc/self/exe", "serve")
	// It has its mount to itself, and nothing is left of it when it ends.
	command.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	command.Stderr = os.Stderr
	input, err := command.StdinPipe()
	control.Check(err)
	output, err := command.StdoutPipe()
	control.Check(err)
	control.Check(command.Start())
	folder, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		control.Check(fmt.Errorf("the file system did not start: %w", err))
	}
	return &server{command: command, input: input, folder: strings.TrimSpace(folder)}
}

// open opens the file, which only the server's mount namespace has.
func (s *server) open() int {
	path := fmt.Sprintf("/proc/%d/root%s/%s", s.command.Process.Pid, s.folder, fileName)
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		control.Check(fmt.Errorf("opening %s: %w", path, err))
	}
	return fd
}

func (s *server) stop() {
	control.Check(s.input.Close())
	control.Check(s.command.Wait())
}
