// Package faultnet is a TCP proxy that goes wrong on purpose. It is imported by
// tests and by the bench, never by anything that ships.
//
// A Proxy passes connections on to one server. It has one fault at a time, which
// acts on all of its connections, the present and the coming ones, from the
// moment its method returns until Restore or another fault:
//
//	Latency    everything arrives later, in both directions together by d.
//	Bandwidth  all connections share so many bytes a second each way.
//	ResetPeer  a fraction of what is passed becomes an RST to both ends.
//	Blackhole  packets are lost, also those that open a connection: nobody is
//	           told anything, and TCP goes on by itself if it ends in time.
//	HalfOpen   connections are accepted, acknowledged and kept, but nothing is
//	           passed and nobody is told of an end. Those it meets stay so after
//	           Restore, as behind a firewall that has forgotten them.
//	SlowClose  the end of one side is told to the other d later.
//
// Cut ends the clients' side of all connections at once. What the server's side
// learns of it, and when, is up to the fault.
//
// Why not a library: toxiproxy's resets are decided once a connection and so mean
// little to sessions that live for hours; its timeouts drop bytes out of the
// middle of a stream, which TCP never does; and it cannot lose packets, so that
// keepalives and TCP_USER_TIMEOUT never get to act. Blackhole does lose them: a
// packet filter on the proxy's own sockets, which needs no privilege, lets the
// kernel discard whatever arrives.
package faultnet
