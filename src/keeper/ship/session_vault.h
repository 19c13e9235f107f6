// The vault's part in the beginning of a session: signs this site's statement, checks the peer's;
// and what a keeper shows it of its line.
//
// A call to the vault blocks, so it is made on a thread that lives as long as the call; the answer
// comes on the reactor's thread. One question is out at a time and one waits: a newer one takes its
// place (unanswered: its session is over, or the sender's own deadline ends it). The reactor turns
// until idle() before this goes away.
#pragma once

#include <optional>
#include <string>
#include <thread>

#include "journal/format/lineage.h"
#include "replication/effect.h"
#include "sys/reactor.h"
#include "vault/protocol/client.h"

namespace hf::keeper {

inline title::Line line_of(const journal::LineEnd& end) {
  return {.position = end.position, .chain = end.chain};
}

class SessionVault {
 public:
  using Signed = std::move_only_function<void(Result<crypto::Signature>)>;
  using Checked = std::move_only_function<void(Status)>;

  SessionVault(sys::Reactor& reactor, VmId vm, std::string vault_socket);
  ~SessionVault();  // asserts idle()

  void sign(const replication::SignStatement& question, Signed done);
  void check(const replication::CheckStatement& question, Checked done);
  // Where the line here ends (vault::KeyClient::show_line). One at a time: not while busy().
  void show(vault::ShownLine line, Checked done);
  bool busy() const { return asking_; }
  void forget_waiting() { waiting_.reset(); }
  bool idle() const { return !asking_ && !waiting_; }

 private:
  // Asks, on the thread; gives what is to be done with the answer on the reactor's.
  using Question = std::move_only_function<std::move_only_function<void()>(vault::KeyClient&)>;
  void ask(Question question);
  void begin(Question question);
  void end();

  sys::Reactor& reactor_;
  const VmId vm_;
  const std::string vault_socket_;
  bool asking_ = false;
  std::optional<Question> waiting_;
  std::thread thread_;
};

}  // namespace hf::keeper
