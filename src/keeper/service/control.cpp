#include "keeper/service/control.h"

namespace hf::keeper {
namespace {

constexpr size_t kControlConnectionsMax = 16;

class ControlConnection final : public LocalConnection {
 public:
  ControlConnection(LocalServer& server, sys::UniqueFd socket, ControlHandler& handler)
      : LocalConnection(server, std::move(socket)), handler_(handler) {}

 private:
  // What a reply finds its way back by: the connection may go first.
  struct Waiting {
    ControlConnection* connection;
  };

  void on_received(ByteSpan bytes) override {
    const size_t before = line_.size();
    line_ += as_text(bytes);
    if (line_.size() > keeper_protocol::kQuestionBytesMax) return fail();
    const size_t end = line_.find('\n', before);
    if (end == std::string::npos) return receive_more();
    // A client waits for its answer before it asks again; what stands behind the line is dropped.
    auto question = keeper_protocol::decode_question(std::string_view(line_).substr(0, end));
    line_ = {};
    if (!question.ok()) return answer(std::move(question).error());
    waiting_ = std::make_shared<Waiting>(Waiting{.connection = this});
    handler_.handle(*std::move(question), [waiting = waiting_](Result<sys::JsonObject> result) {
      if (waiting->connection != nullptr) waiting->connection->answer(std::move(result));
    });
  }

  void on_closing() override {
    if (waiting_ != nullptr) waiting_->connection = nullptr;
  }

  void answer(Result<sys::JsonObject> result) {
    if (waiting_ != nullptr) waiting_->connection = nullptr;  // once
    const std::string text =
        (result.ok() ? sys::to_text(keeper_protocol::encode_answer(*std::move(result)))
                     : keeper_protocol::encode_refusal(result.error())) +
        "\n";
    ByteSpan raw = as_bytes(text);
    send({raw.begin(), raw.end()});
  }

  ControlHandler& handler_;
  std::string line_;
  std::shared_ptr<Waiting> waiting_;
};

}  // namespace

Error not_in_this_mode(const keeper_protocol::Question& question, std::string_view mode) {
  const std::string_view op =
      std::visit([](const auto& asked) { return std::string_view(asked.kOp); }, question);
  return Error{.code = ErrorCode::kUnsupported,
               .cause = "a keeper in mode " + std::string(mode) + " has no " + std::string(op)};
}

ControlServer::ControlServer(sys::Reactor& reactor, sys::UniqueFd listener, ControlHandler& handler)
    : server_(reactor, std::move(listener), kControlConnectionsMax,
              [&handler](LocalServer& server, sys::UniqueFd socket) {
                return std::make_unique<ControlConnection>(server, std::move(socket), handler);
              }) {}

}  // namespace hf::keeper
