package faultnet

import "syscall"

// nothing is a packet filter (classic BPF) that keeps 0 bytes of every packet.
var nothing = []syscall.SockFilter{{Code: syscall.BPF_RET | syscall.BPF_K, K: 0}}

// filter makes the kernel discard whatever arrives at a socket, or no longer. An
// error says that the socket is closed, or that there was no filter.
func filter(socket syscall.Conn, discard bool) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		if discard {
			_ = syscall.AttachLsf(int(fd), nothing)
		} else {
			_ = syscall.DetachLsf(int(fd))
		}
	})
}
