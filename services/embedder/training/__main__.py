"""Command line of training: prepare, train, evaluate."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from services.embedder.dcpl.model_directory import InvalidModel, load_model
from services.embedder.training import prepare as preparation
from services.embedder.training import report
from services.embedder.training.checkpoint import UnusableCheckpoint
from services.embedder.training.datasets import SPLITS, InvalidDataset, read_dataset
from services.embedder.training.evaluate import evaluate_split
from services.embedder.training.learner import Place, TrainingDiverged
from services.embedder.training.recipe import PRESETS, Recipe
from services.embedder.training.train import Epoch, Watch, train
