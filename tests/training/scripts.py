"""Scripts that train for real, as their libraries' users write them. Each is run by a Python that has the library.

The rule: nothing in them knows of modelwarden. Each ends by printing, as JSON, what its library itself says came of it.
"""

XGBOOST = """
import json, sys, time
import numpy as np
import xgboost as xgb
out = sys.argv[1]
random = np.random.default_rng(1)
X = random.normal(size=(600, 6))
y = (X[:, 0] * X[:, 1] + X[:, 2] > 0).astype(int)
train, held = xgb.DMatrix(X[:400], y[:400]), xgb.DMatrix(X[400:], y[400:])
seen = {}
booster = xgb.train(
    {"objective": "binary:logistic", "eval_metric": ["logloss", "error"], "nthread": 1, "seed": 1},
    train, 60, evals=[(train, "train"), (held, "eval")], evals_result=seen, early_stopping_rounds=8, verbose_eval=False,
)
with open(f"{out}/evals_result.json", "w") as stream:
    json.dump(seen, stream)
print(json.dumps({"written": time.time(), "best": booster.best_iteration, "value": booster.best_score}))
"""

OPTUNA = """
import json, sys, time
import optuna
from optuna.storages.journal import JournalFileBackend, JournalStorage
out = sys.argv[1]
optuna.logging.set_verbosity(optuna.logging.WARNING)
def objective(trial):
    x = trial.suggest_float("x", -1, 1)
    for step in range(4):
        trial.report(1 - x * x - 0.1 / (step + 1), step)
        time.sleep(0.02)
        if trial.should_prune():
            raise optuna.TrialPruned
    if trial.number == 3:
        return float("nan")
    return 1 - x * x
storage = JournalStorage(JournalFileBackend(f"{out}/journal.log"))
study = optuna.create_study(
    study_name="real", storage=storage, direction="maximize",
    sampler=optuna.samplers.TPESampler(seed=1), pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
)
study.optimize(objective, n_trials=15)
print(json.dumps({"written": time.time(), "best": study.best_trial.number, "value": study.best_value}))
"""

HF_TRAINER = """
import json, sys, time
import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments
out = sys.argv[1]
torch.manual_seed(1)
config = BertConfig(
    vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
    max_position_embeddings=16,
)
class Rows(torch.utils.data.Dataset):
    def __init__(self, count, seed):
        random = np.random.default_rng(seed)
        self.ids = random.integers(1, 64, size=(count, 8))
        self.labels = (self.ids[:, 0] > 32).astype(int)
    def __len__(self):
        return len(self.ids)
    def __getitem__(self, at):
        return {"input_ids": torch.tensor(self.ids[at]), "labels": int(self.labels[at])}
arguments = TrainingArguments(
    f"{out}/tiny", per_device_train_batch_size=16, num_train_epochs=2, eval_strategy="steps", eval_steps=10,
    save_strategy="steps", save_steps=10, save_total_limit=2, report_to=[], use_cpu=True, disable_tqdm=True,
    logging_steps=5,
)
def figures(both):
    return {"accuracy": float((both.predictions.argmax(1) == both.label_ids).mean())}
trainer = Trainer(
    BertForSequenceClassification(config), arguments, train_dataset=Rows(320, 1), eval_dataset=Rows(64, 2),
    compute_metrics=figures,
)
trainer.train()
row = [row for row in trainer.state.log_history if "eval_loss" in row][-1]
print(json.dumps({"written": time.time(), "best": f"checkpoint-{row['step']}", "value": row["eval_loss"]}))
"""

SB3 = """
import json, sys, time
import gymnasium
import numpy as np
import torch
from stable_baselines3 import A2C
from stable_baselines3.common.callbacks import CallbackList, CheckpointCallback, EvalCallback
from stable_baselines3.common.monitor import Monitor
out = sys.argv[1]
torch.set_num_threads(1)
model = A2C("MlpPolicy", Monitor(gymnasium.make("CartPole-v1")), seed=1, device="cpu")
held = Monitor(gymnasium.make("CartPole-v1"))
evaluate = EvalCallback(held, log_path=out, eval_freq=200, n_eval_episodes=2, verbose=0)
model.learn(1000, callback=CallbackList([evaluate, CheckpointCallback(200, f"{out}/checkpoints")]))
model.save(f"{out}/final_model")
with np.load(f"{out}/evaluations.npz") as arrays:
    last = float(arrays["results"][-1].mean())
    steps = int(arrays["timesteps"][-1])
print(json.dumps({"written": time.time(), "best": steps, "value": last}))
"""

LIGHTNING = """
import json, sys, time
import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import nn
out = sys.argv[1]
torch.set_num_threads(1)
L.seed_everything(1)
X = torch.randn(200, 4)
y = (X[:, 0] * X[:, 1] > 0).long()
def loader(begin, end):
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X[begin:end], y[begin:end]), 32)
class Model(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    def training_step(self, batch, at):
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss
    def validation_step(self, batch, at):
        self.log("val_loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-2)
keep = ModelCheckpoint(monitor="val_loss", save_top_k=2, mode="min")
trainer = L.Trainer(
    max_epochs=6, logger=CSVLogger(out, name="lightning_logs"), callbacks=[keep], accelerator="cpu",
    log_every_n_steps=2, enable_progress_bar=False, enable_model_summary=False,
)
trainer.fit(Model(), loader(0, 160), loader(160, 200))
print(json.dumps({"written": time.time(), "best": keep.best_model_path, "value": float(keep.best_model_score)}))
"""
