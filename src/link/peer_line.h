// A paired site as the link knows it: who it must be, how it is reached, the session with it, and
// what waits for one.
//
// Either side may connect. Where both did at the same time, the connection that the lower site id
// dialled stays; else a new one takes the place of the old, since nobody dials who has one. The
// session that is replaced takes nothing new and ends once it is idle.
#pragma once

#include <map>
#include <memory>

#include "link/dialer.h"
#include "link/session.h"

namespace hf::link {

class PeerLine final : public SessionOwner {
 public:
  // `identity` is asked for at each dialling; null while there is none.
  PeerLine(Uplink& uplink, SiteId own_site,
           std::function<std::shared_ptr<const TlsIdentity>()> identity,
           const peer::PeerRecord& record, crypto::Certificate ca);
  ~PeerLine();

  // Another authority ends what there is under the old one.
  void set(const peer::PeerRecord& record, crypto::Certificate ca);
  void end(const Error& why);  // it is a stranger now
  const peer::PeerRecord& record() const { return record_; }
  const crypto::Certificate& ca() const { return ca_; }
  Result<Session*> adopt(std::unique_ptr<TlsChannel> channel);  // of a connection that was verified
  void note_refused(const Error& error);  // it came with a certificate that is not the pinned
  void report();                          // its state, to holdfastd
  void keep_connected();                  // connects if that is wanted and not under way

  void ask(uint64_t link_id, const peer::Ask& ask);
  void ask_more(uint64_t link_id, ByteSpan part);
  void cancel(uint64_t link_id);
  void give_up(uint64_t link_id);  // a question, if it waits
  void open(uint64_t link_id, VmId vm, sys::UniqueFd keeper);
  void close(uint64_t link_id);
  Session* session_of(uint64_t link_id);
  void daemon_gone();
  void daemon_new();

  void session_up(Session& session) override;
  void session_clock(Session& session, int64_t ahead_us) override;
  void session_down(Session& session, const Error& why) override;

 private:
  struct Waiting {
    // A question …
    uint32_t total = 0;
    uint32_t limit_ms = 0;
    peer::PartCounter asked;
    std::vector<Bytes> parts;
    // … or a stream.
    std::optional<VmId> vm;
    sys::UniqueFd keeper;
  };

  void dial();
  void dialled(Result<std::unique_ptr<TlsChannel>> channel);
  void dial_later();
  void say_clock(bool was_off);
  void send_waiting();
  void fail_waiting(const Error& error);
  void fail_one(uint64_t link_id, const Waiting& waiting, const Error& error);
  void set_state(peer::Reach reach, std::optional<Error> error);
  bool usable() const { return current_ != nullptr && current_->up(); }

  Uplink& uplink_;
  const SiteId own_site_;
  std::function<std::shared_ptr<const TlsIdentity>()> identity_;
  peer::PeerRecord record_;
  crypto::Certificate ca_;
  std::unique_ptr<Session> current_;
  std::unique_ptr<Session> retired_;
  std::unique_ptr<Dialer> dialer_;
  CallbackTimer again_;
  CallbackTimer retire_limit_;
  CallbackTimer clock_again_;  // what its clock is by then
  Micros pause_;
  bool tried_again_ = false;
  std::map<uint64_t, Waiting> waiting_;

  peer::Reach reach_ = peer::Reach::kUnknown;
  std::optional<Error> error_;
  std::optional<Micros> last_seen_;
  std::optional<int64_t> clock_ahead_us_;
  std::optional<Micros> clock_said_;
  Micros reported_;
};

}  // namespace hf::link
