#include "keeper/control.h"

namespace hf::keeper {
namespace {

constexpr size_t kLineMax = 16 * 1024;
constexpr size_t kControlConnectionsMax = 16;

class ControlConnection final : public LocalConnection {
 public:
  ControlConnection(LocalServer& server, sys::UniqueFd socket, ControlHandler& handler)
      : LocalConnection(server, std::move(socket)), handler_(handler) {}

 private:
  void on_received(ByteSpan bytes) override {
    line_ += as_text(bytes);
    if (line_.size() > kLineMax) return fail();
    const size_t end = line_.find('\n');
    if (end == std::string::npos) return receive_more();
    // A client waits for its answer before it asks again; what stands behind the line is dropped.
    const std::string line = line_.substr(0, end);
    line_.clear();
    const std::string answer = sys::to_text(answer_to(line)) + "\n";
    ByteSpan raw = as_bytes(answer);
    send({raw.begin(), raw.end()});
  }

  sys::JsonObject answer_to(const std::string& line) {
    auto handled = [&]() -> Result<sys::JsonObject> {
      const sys::JsonObject request = TRY(sys::parse_json_object(line));
      return handler_.handle(request);
    }();
    if (!handled.ok()) {
      return {{"ok", false}, {"error", sys::error_to_json(handled.error())}};
    }
    sys::JsonObject answer = *std::move(handled);
    answer["ok"] = true;
    return answer;
  }

  ControlHandler& handler_;
  std::string line_;
};

}  // namespace

ControlServer::ControlServer(sys::Reactor& reactor, sys::UniqueFd listener, ControlHandler& handler)
    : server_(reactor, std::move(listener), kControlConnectionsMax,
              [&handler](LocalServer& server, sys::UniqueFd socket) {
                return std::make_unique<ControlConnection>(server, std::move(socket), handler);
              }) {}

}  // namespace hf::keeper
